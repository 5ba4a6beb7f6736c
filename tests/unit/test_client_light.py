"""What the imports of the client load."""

import subprocess
import sys

import pytest

import botfarm_client


def loaded_after(statement: str) -> set[str]:
    script = f"{statement}\nimport sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in run.stdout.split()}


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import botfarm_client", {"httpx", "typer"}),
        ("import botfarm_client.errors", {"httpx", "typer"}),
        ("from botfarm_client import Botfarm, AsyncBotfarm", {"typer"}),
        ("from botfarm_client.testing import FakeFarm", {"typer"}),
    ],
)
def test_an_import_brings_no_more_than_it_needs(statement: str, absent: set[str]) -> None:
    assert not loaded_after(statement) & absent


def test_every_name_that_is_exported_is_there() -> None:
    for name in botfarm_client.__all__:
        assert getattr(botfarm_client, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Botfram'"):
        botfarm_client.Botfram  # type: ignore[attr-defined]  # noqa: B018
