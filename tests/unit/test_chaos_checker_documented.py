"""Each way in which an answer can leave the OpenAPI document is found."""

from typing import Any

import pytest

from chaos.checker.answers import AS_DOCUMENTED, as_documented
from chaos.checker.seen import Seen
from support.chaos_story import Story

HTML = "text/html; charset=utf-8"


def told(operation: str, path: str, **seen: Any) -> list[str]:
    story = Story()
    story.call("person", operation, "GET", path, 1, **seen)
    calls = Seen(story.history)
    violations = list(as_documented(calls, story.kept))
    assert calls.compared[AS_DOCUMENTED] == 1
    return [str(violation) for violation in violations]


@pytest.mark.parametrize(
    ("wrong", "operation", "seen"),
    [
        ("the document does not know", "get_secrets", {"answer": {}}),
        ("has a body that is not documented", "delete_token", {"status": 204, "answer": "deleted"}),
        ("has the media type text/html, which is not documented", "get_pools", {"content_type": HTML}),
        ("has the media type none, which is not documented", "get_pools", {"content_type": ""}),
    ],
)
def test_an_answer_of_the_api_that_is_not_documented_is_found(
    wrong: str, operation: str, seen: dict[str, Any]
) -> None:
    (violation,) = told(operation, "/api/v1/x", **{"status": 200, "answer": "", **seen})
    assert violation.startswith(f"as documented: person got an answer of {operation} that {wrong}")


@pytest.mark.parametrize("answer", [None, ""])
def test_an_answer_without_a_body_is_clean(answer: str | None) -> None:
    assert told("delete_token", "/api/v1/tokens/x", status=204, answer=answer, content_type="") == []


def test_a_500_on_the_page_is_found() -> None:
    (violation,) = told("page", "/ui/users", status=500, answer="Something went wrong.", content_type=HTML)
    assert "person got an answer of page that is a 500" in violation


@pytest.mark.parametrize("status", [200, 303, 409, 503])
def test_other_answers_of_the_page_are_clean(status: int) -> None:
    assert told("page", "/ui/users", status=status, answer="<main>", content_type=HTML) == []
