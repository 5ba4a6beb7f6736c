from typing import Any

import pytest

from support.fake_farm import FakeFarm

FAILED = {"id": "u1", "login": "alice@shop.test", "problem": "user-retired"}
RESULT: dict[str, Any] = {"matched": 3, "done": 2, "replaced": 1, "failed": [FAILED]}
QUARANTINE = ("users", "bulk", "quarantine", "--all", "--reason", "why")


@pytest.mark.parametrize(("options", "would"), [(["--yes"], ""), (["--dry-run"], "would be ")])
def test_a_bulk_change_names_the_users_that_it_left_out(options: list[str], would: str) -> None:
    shown = FakeFarm({"POST /users/bulk": RESULT}).run(*QUARANTINE, *options).out
    assert f"3 users match, 2 {would}changed, 1 not." in shown
    assert f"Of those, 1 had another reason, which {would or 'is '}replaced." in shown
    assert "alice@shop.test" in shown


def test_a_farm_of_the_version_before_says_less() -> None:
    old = {"matched": 3, "done": 2, "failed": [{"id": "u1", "problem": "user-retired"}]}
    shown = FakeFarm({"POST /users/bulk": old}).run(*QUARANTINE, "--yes").out
    assert "u1" in shown
    assert "replaced" not in shown
