"""A shop with accounts, and a farm with projects that have some of them, on free ports and in a folder of their own."""

import secrets
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from demo.processes import BIN, DemoError, run, started

LATENCY = "0.04"
"""Seconds that the shop takes for each page, as shops do that are not on this machine."""


@dataclass(frozen=True)
class Stage:
    folder: Path
    shop_url: str
    support_key: str = field(repr=False)
    farm_url: str
    token: str = field(repr=False)
    accounts: Sequence[str]
    """Lines of JSON."""

    @property
    def of_the_farm(self) -> dict[str, str]:
        return {"BOTFARM_URL": self.farm_url, "BOTFARM_TOKEN": self.token}

    def add_project(self, name: str, accounts: Sequence[str], *policy: str) -> None:
        file = self.folder / f"{name}.jsonl"
        file.touch(mode=0o600)
        file.write_text("\n".join(accounts))
        self._botfarm("projects", "add", name, *policy)
        self._botfarm("users", "import", str(file), "--project", name)

    def token_of_a_keeper(self, project: str) -> str:
        body = {"name": "keeper", "role": "keeper", "projects": [project], "envs": ["stage"]}
        headers = {"Authorization": f"Bearer {self.token}"}
        url = f"{self.farm_url}/api/v1/tokens"
        answer = httpx.post(url, json=body, headers=headers, trust_env=False).raise_for_status()
        return str(answer.json()["token"])

    def _botfarm(self, *arguments: str) -> None:
        command = (str(BIN / "botfarm"), *arguments)
        code, output = run(*command, output=self.folder / "botfarm.log", variables=self.of_the_farm)
        if code:
            raise DemoError(output)


@contextmanager
def set_stage(folder: Path, *, accounts: int) -> Iterator[Stage]:
    folder.chmod(0o711)  # as root the database is another account's
    file, support_key = folder / "accounts.jsonl", secrets.token_urlsafe(24)
    shop_command = [sys.executable, "-m", "shop", "--accounts", str(file), "--make", str(accounts)]
    shop_command += ["--port", "0", "--latency", LATENCY]
    of_shop = {"SHOP_SUPPORT_KEY": support_key}
    of_dev = {"BOTFARM_DATA_DIR": str(folder / "farm"), "BOTFARM_PORT": "0"}
    with (
        started(*shop_command, output=folder / "shop.log", variables=of_shop) as shop,
        started(str(BIN / "botfarm"), "dev", output=folder / "farm.log", variables=of_dev) as farm,
    ):
        url, token = farm.says(r"botfarm is running: (\S+)"), farm.says(r"token +(\S+)")
        shop_url = shop.says(r"open: (\S+)")
        yield Stage(folder, shop_url, support_key, url, token, file.read_text().splitlines())
