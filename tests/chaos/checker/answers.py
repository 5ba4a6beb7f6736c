"""No answer that the OpenAPI document does not have."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import jsonschema_rs

from botfarm.crypto.key_ring import generate_key
from botfarm.settings import load_settings
from botfarm.web.app import create_app
from chaos.checker.kept import Kept
from chaos.checker.seen import Seen
from chaos.checker.violations import Violation, shown, slug_of
from chaos.history import Call

AS_DOCUMENTED = "as documented"

_TRACEBACK = re.compile(r"Traceback \(most recent call last\)|File \".*\", line \d+")
PAGE = "/ui"


def as_documented(seen: Seen, _: Kept) -> Iterator[Violation]:
    """Status, media type and body of each answer are in the OpenAPI document (docs/problems.md).

    A problem has one of the slugs that the document gives for its operation and status. No answer is a 500, which
    the document has because a bug would be told so. A call without an answer is no violation. The page is not in the
    document: none of its answers is a 500 or has a traceback.
    """
    for call in seen.calls:
        if call.status is None:
            continue
        seen.compared[AS_DOCUMENTED] += 1
        wrong = _of_page(call) if call.path.startswith(PAGE) else _of_operation(call)
        if wrong is not None:
            yield Violation(
                AS_DOCUMENTED, f"{call.client} got an answer of {call.operation} that {wrong}", (shown(call),)
            )


def _of_page(call: Call) -> str | None:
    if call.status == 500:
        return "is a 500"
    if isinstance(call.answer, str) and _TRACEBACK.search(call.answer):
        return "has a traceback"
    return None


def _of_operation(call: Call) -> str | None:
    if call.status == 500:
        return "is a 500"
    answers = documented().get(call.operation)
    if answers is None:
        return "the document does not know"
    answer = answers.get(str(call.status))
    if answer is None:
        return "has a status that is not documented"
    return answer.fault_of(call)


class Documented:
    """One status of one operation."""

    def __init__(self, answer: dict[str, Any], components: dict[str, Any]) -> None:
        self._slugs = set(answer["description"].split(", "))
        self._content = {
            media_type: jsonschema_rs.Draft202012Validator({**content["schema"], "components": components})
            for media_type, content in answer.get("content", {}).items()
        }

    def fault_of(self, call: Call) -> str | None:
        media_type = call.content_type.partition(";")[0].strip()
        if not self._content:
            return None if call.answer in (None, "") else "has a body that is not documented"
        schema = self._content.get(media_type)
        if schema is None:
            return f"has the media type {media_type or 'none'}, which is not documented"
        slug = slug_of(call)
        if media_type == "application/problem+json" and slug not in self._slugs:
            return f"has the slug {slug}, which is not documented for this status"
        if (error := next(schema.iter_errors(call.answer), None)) is not None:
            where = ".".join(map(str, error.instance_path)) or "the body"
            return f"does not fit its schema: {where} ({type(error.kind).__name__})"
        return None


@cache
def documented() -> dict[str, dict[str, Documented]]:
    """The answers of each operation by their status."""
    settings = load_settings(database_url="postgresql://localhost/none", encryption_keys=generate_key("none"))
    document = create_app(settings).openapi()
    return {
        operation["operationId"]: {
            status: Documented(answer, document["components"])
            for status, answer in operation["responses"].items()
        }
        for path in document["paths"].values()
        for operation in path.values()
    }
