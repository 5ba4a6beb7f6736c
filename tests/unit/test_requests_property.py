"""Any JSON body is accepted or refused; accepted values can be stored and written out again."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from botfarm.web.api.access import access_requests
from botfarm.web.api.leasing import lease_requests
from botfarm.web.api.shared.request_body import RequestBody
from botfarm.web.api.stock import project_requests, user_requests

MODELS = [
    each
    for module in (access_requests, project_requests, lease_requests, user_requests)
    for each in vars(module).values()
    if isinstance(each, type) and issubclass(each, RequestBody) and each is not RequestBody
]

texts = st.text(st.characters(codec=None), max_size=40) | st.sampled_from(
    ["", "\0", "\ud800", "a@b.test", "stage", "k:v"]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def bodies(model: type[BaseModel]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with the names that the model knows, and some that it does not."""
    return st.dictionaries(st.sampled_from(sorted(model.model_fields)) | texts, values, max_size=6)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
@settings(max_examples=50)
@given(data=st.data())
def test_any_object_fits_or_is_refused(model: type[BaseModel], data: st.DataObject) -> None:
    body = data.draw(bodies(model))
    try:
        accepted = model.model_validate(body)
    except ValidationError:
        return
    assert set(body) <= set(model.model_fields)
    for text in _texts(accepted.model_dump()):
        assert "\0" not in text
        text.encode()
    json.dumps(accepted.model_dump(mode="json"), allow_nan=False)


def _texts(value: object) -> list[str]:
    match value:
        case str():
            return [value]
        case dict():
            return [text for pair in value.items() for part in pair for text in _texts(part)]
        case list() | tuple():
            return [text for part in value for text in _texts(part)]
        case _:
            return []


@given(metadata=st.dictionaries(st.text(max_size=5), values, max_size=5))
@settings(max_examples=100)
def test_accepted_metadata_is_answered_unchanged(metadata: dict[str, Any]) -> None:
    try:
        taken = lease_requests.LockRequest.model_validate({"metadata": metadata}).metadata
    except ValidationError:
        return
    assert json.loads(json.dumps(taken)) == metadata
    assert len(json.dumps(taken, ensure_ascii=False).encode()) <= 4_096
