"""The errors of the client match the problems of the farm."""

import re
from collections.abc import Iterator
from pathlib import Path

from botfarm.web.http.error_responses import PROBLEMS
from botfarm_client import errors
from botfarm_client.errors import BotfarmError, ProblemError, problem_error

DOCUMENT = (Path(__file__).parents[2] / "docs/problems.md").read_text()
# If several errors of the server share a slug, the one that is named like the slug.
SERVER = {slug: kind.__name__ for kind, (_, slug) in reversed(PROBLEMS.items())}


def subclasses(kind: type[BotfarmError]) -> Iterator[type[BotfarmError]]:
    for each in kind.__subclasses__():
        yield each
        yield from subclasses(each)


def test_each_problem_of_the_farm_is_one_class_of_the_same_name() -> None:
    assert {slug: kind.__name__ for slug, kind in ProblemError.classes.items()} == SERVER
    assert set(ProblemError.classes) == set(re.findall(r"^\| \d+ \| `([a-z-]+)` \|", DOCUMENT, re.MULTILINE))


def test_a_class_is_not_shared() -> None:
    assert len(set(ProblemError.classes.values())) == len(ProblemError.classes)


def test_the_tree_in_the_docstring_names_every_error_and_nothing_else() -> None:
    tree = (errors.__doc__ or "").partition("\n\n")[2]
    drawn = re.findall(r"\w+Error\b", tree)
    assert sorted(drawn) == sorted({each.__name__ for each in subclasses(BotfarmError)} | {"BotfarmError"})


def test_an_unknown_problem_of_a_later_farm_is_a_problem_error() -> None:
    error = problem_error(409, {"type": "urn:botfarm:problem:of-tomorrow", "detail": "It is so."})
    assert type(error) is ProblemError
    assert (error.slug, str(error)) == ("of-tomorrow", "409 of-tomorrow: It is so.")
