"""`botfarm apply` where the farm changes between the plan and its answer."""

from pathlib import Path
from typing import Any

import pytest

from botfarm_client.commands.configuration import commands
from botfarm_client.commands.shared.command_errors import CommandError
from botfarm_client.connection.api_calls import Call
from botfarm_client.errors import problem_error

USER = {"kind": "user", "name": "a@b.de", "project": "shop", "env": "stage"}
CHANGE = {"thing": USER, "deed": "update", "differences": [], "where": "projects.0.users.0", "id": "1"}
PLAN = {"changes": [CHANGE], "left_alone": [], "unnamed": []}


class Farm:
    def __init__(self, *, changes: int) -> None:
        self.changes = changes
        self.asked: list[tuple[str, object]] = []

    def send(self, call: Call) -> Any:
        self.asked.append((call.path, (call.json or {}).get("fingerprint")))
        if call.path == "/config/plan":
            return {**PLAN, "fingerprint": f"plan {len(self.asked)}"}
        if self.changes:
            self.changes -= 1
            raise problem_error(409, {"type": "urn:botfarm:problem:changed-meanwhile", "detail": "changed"})
        return {**PLAN, "tokens": []}


def apply(farm: Farm, folder: Path) -> Any:
    path = folder / "farm.yaml"
    path.write_text("name: team\nprojects: {shop: {users: [{login: a@b.de, env: stage}]}}\n")
    file = commands._read(path, prune=False, adopt=False)
    return commands._apply(farm, file, None, yes=True, quiet=False)  # type: ignore[arg-type]


def test_the_new_plan_is_shown_and_applied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    farm = Farm(changes=1)
    assert apply(farm, tmp_path)["tokens"] == []
    assert farm.asked == [
        ("/config/plan", None),
        ("/config/apply", "plan 1"),
        ("/config/plan", None),
        ("/config/apply", "plan 3"),
    ]
    shown = capsys.readouterr()
    assert shown.out.count("~ user a@b.de (shop/stage)") == 2
    assert "the farm has changed since this plan was made" in shown.err


def test_a_farm_that_changes_for_ever_ends_the_command(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="nothing was done"):
        apply(Farm(changes=99), tmp_path)
