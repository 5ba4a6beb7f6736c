"""A shop with accounts, and a farm with the same accounts, on free ports and in a folder of their own."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from demo.processes import BIN, DemoError, run, started

PROJECT = "webshop"
LATENCY = "0.04"
"""Seconds that the shop takes for each page, as shops do that are not on this machine."""


@dataclass(frozen=True)
class Stage:
    shop_url: str
    farm_url: str
    token: str
    accounts: Path

    @property
    def of_the_farm(self) -> dict[str, str]:
        return {"BOTFARM_URL": self.farm_url, "BOTFARM_TOKEN": self.token}


@contextmanager
def set_stage(folder: Path, *, accounts: int) -> Iterator[Stage]:
    folder.chmod(0o711)  # as root the database is another account's
    file = folder / "accounts.jsonl"
    shop_command = [sys.executable, "-m", "shop", "--accounts", str(file), "--make", str(accounts)]
    shop_command += ["--port", "0", "--latency", LATENCY]
    of_dev = {"BOTFARM_DATA_DIR": str(folder / "farm"), "BOTFARM_PORT": "0"}
    with (
        started(*shop_command, output=folder / "shop.log") as shop,
        started(str(BIN / "botfarm"), "dev", output=folder / "farm.log", variables=of_dev) as farm,
    ):
        url, token = farm.says(r"botfarm is running: (\S+)"), farm.says(r"token +(\S+)")
        stage = Stage(shop.says(r"open: (\S+)"), url, token, file)
        _botfarm(stage, folder, "projects", "add", PROJECT)
        _botfarm(stage, folder, "users", "import", str(file), "--project", PROJECT)
        yield stage


def _botfarm(stage: Stage, folder: Path, *arguments: str) -> None:
    command = (str(BIN / "botfarm"), *arguments)
    code, output = run(*command, output=folder / "botfarm.log", variables=stage.of_the_farm)
    if code:
        raise DemoError(output)
