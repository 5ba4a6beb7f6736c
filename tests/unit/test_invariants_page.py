"""The page of invariants names tests that exist, and each invariant has one."""

import ast
import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
ROWS = re.findall(
    r"^\| \*\*(.+?)\*\* \|.*\| (.+) \|$", (CHECKOUT / "docs/invariants.md").read_text(), re.MULTILINE
)


@pytest.mark.parametrize(("invariant", "cell"), ROWS, ids=[name for name, _ in ROWS])
def test_every_test_of_an_invariant_exists(invariant: str, cell: str) -> None:
    named = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", cell)
    assert named, f"{invariant} has no test"
    for file, function in named:
        tree = ast.parse((CHECKOUT / "tests" / file).read_text())
        names = {
            node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert not function or function in names, f"{file} has no {function}"


def test_there_are_invariants() -> None:
    assert len(ROWS) >= 12
