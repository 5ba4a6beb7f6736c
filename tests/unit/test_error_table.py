"""The mapping from errors to problems cannot rot."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from botfarm import errors
from botfarm.errors import BotfarmError
from botfarm.web.http.error_responses import PROBLEMS

DOCUMENT = (Path(__file__).parents[2] / "docs/problems.md").read_text()
# Errors that only group others are never raised themselves.
GROUPS = {errors.NotFoundError, errors.ConflictError, errors.UnavailableError}


def subclasses(kind: type[BotfarmError]) -> Iterator[type[BotfarmError]]:
    for each in kind.__subclasses__():
        yield each
        yield from subclasses(each)


ALL = sorted(set(subclasses(BotfarmError)) - GROUPS, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_has_its_status_its_slug_and_a_sentence(kind: type[BotfarmError]) -> None:
    status, slug = PROBLEMS[kind]
    assert 400 <= status < 600
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", slug)
    assert kind.__doc__


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_slug_is_documented_with_its_status(kind: type[BotfarmError]) -> None:
    status, slug = PROBLEMS[kind]
    assert f"| {status} | `{slug}` |" in DOCUMENT


def test_nothing_is_documented_that_does_not_exist() -> None:
    documented = {
        (int(status), slug)
        for status, slug in re.findall(r"^\| (\d+) \| `([a-z-]+)` \|", DOCUMENT, re.MULTILINE)
    }
    assert documented == set(PROBLEMS.values())


def test_the_tree_in_the_docstring_names_every_error() -> None:
    assert [kind.__name__ for kind in ALL if kind.__name__ not in (errors.__doc__ or "")] == []
