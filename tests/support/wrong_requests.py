"""Every way to put something where it does not belong in a request, told by the OpenAPI document."""

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from support.driver import Operation

Json = dict[str, Any]
JSON_LINES = "application/x-ndjson"
# Objects whose names are the caller's to choose: only a name that cannot be stored is wrong.
OPEN = {"metadata", "labels", "secrets"}
TOO_LARGE = {"plan_config": 17_000_000, "apply_config": 17_000_000}
HALF_A_CHARACTER = "\ud800"


def wrong_requests(
    operation: Operation, misplaced: str, path: Mapping[str, str], body: Json | None
) -> Iterator[tuple[set[int], Json]]:
    """What may be answered to each, and how it is asked; `path` and `body` are those of a right request."""
    content = {} if body is None else content_of(operation, body)
    yield {422}, {"path": path, "params": {each: each for each in [misplaced, *misplaced.split()]}, **content}
    for name in operation.parameters("query"):
        yield {422}, {"path": path, "params": {name: misplaced}, **content}
    for name in operation.parameters("path"):
        yield {404, 422}, {"path": {**path, name: quote(misplaced, safe="")}, **content}
    for name in operation.parameters("header"):
        headers = {**content.get("headers", {}), name: misplaced}
        yield {422}, {"path": path, **content, "headers": headers}
    yield {404, 405, 422}, {"path": path, "after": f"/{quote(misplaced, safe='')}", **content}
    yield {404}, {"path": path, "after": f"/?{quote(misplaced)}", **content}
    media_type = operation.media_type
    if media_type is None:
        return
    for wrong in wrong_bodies(misplaced, body or {}):
        yield {422}, {"path": path, **content_of(operation, wrong)}
    malformed = f'{{"password": "{misplaced}'
    for status, sent_as, raw in (
        (422 if media_type == JSON_LINES else 400, media_type, malformed),
        (415, "text/plain", misplaced),
        (415, quote(misplaced), misplaced),
        (413, media_type, misplaced * (TOO_LARGE.get(operation.name, 1_100_000) // len(misplaced))),
    ):
        yield {status}, {"path": path, "content": raw, "headers": {"Content-Type": sent_as}}


def wrong_bodies(misplaced: str, body: Json) -> Iterator[Any]:
    yield misplaced
    yield [misplaced]
    yield {**body, **{each: each for each in [misplaced, *misplaced.split()]}}
    yield {**body, "unknown": misplaced}
    for name in body:
        in_an_object = {misplaced: HALF_A_CHARACTER if name in OPEN else misplaced}
        for wrong in ([misplaced], in_an_object, misplaced * 10):
            yield {**body, name: wrong}


def content_of(operation: Operation, body: Any) -> Json:
    media_type = operation.media_type
    assert media_type is not None
    return {"content": json.dumps(body), "headers": {"Content-Type": media_type}}
