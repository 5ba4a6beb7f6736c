"""The examples in the guide of the SDK work as printed."""

import re
from pathlib import Path
from typing import Any

import pytest

from botfarm_client.testing import FakeFarm, FakeUser

GUIDE = (Path(__file__).parents[2] / "docs/python.md").read_text()
FIRST, _, TESTING = re.findall(r"^```python\n(.+?)^```", GUIDE, re.MULTILINE | re.DOTALL)


def test_the_first_lines_of_the_guide_work(monkeypatch: pytest.MonkeyPatch) -> None:
    signed_in: list[tuple[str, str]] = []
    with FakeFarm([FakeUser("a@shop.test", "pw", domain="canary")]) as fake:
        for name, value in fake.environment.items():
            monkeypatch.setenv(name, value)
        exec(FIRST, {"sign_in": lambda *credentials: signed_in.append(credentials)})
    assert signed_in == [("a@shop.test", "pw")]
    assert fake.leases[0].ended_by == "released"


def test_the_example_test_with_a_fake_farm_passes() -> None:
    shown: dict[str, Any] = {}
    exec(TESTING, shown)
    shown["test_it_signs_in"]()
