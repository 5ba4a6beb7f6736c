"""`botfarm demo`, and the tokens that it keeps for the runners and the keeper of the demo."""

import subprocess
from pathlib import Path

from support.app import api_client
from support.farm import KEYS, test_settings
from support.postgres import served
from support.processes import run_botfarm

WANTED = {"project": "shop", "env": "stage"}


def demo(
    database_url: str, token_file: Path, *, option: str = "--runner-token"
) -> subprocess.CompletedProcess[str]:
    environment = {"BOTFARM_DATABASE_URL": served(database_url), "BOTFARM_ENCRYPTION_KEYS": KEYS}
    return run_botfarm("demo", option, str(token_file), environment=environment)


async def test_the_runners_token_takes_users_of_the_shop_in_stage_and_no_more(
    database_url: str, tmp_path: Path
) -> None:
    token_file = tmp_path / "token"
    finished = demo(database_url, token_file)
    assert finished.returncode == 0, finished.stderr
    token = token_file.read_text().strip()
    assert token not in finished.stdout + finished.stderr
    assert token_file.stat().st_mode & 0o777 == 0o600
    assert demo(database_url, token_file).returncode == 0
    assert token_file.read_text().strip() == token, "it is in force"
    async with api_client(test_settings(database_url)) as api:
        (made,) = (await api.get("/tokens")).json()["items"]
        runner = {"Authorization": f"Bearer {token}"}
        assert (await api.post("/leases", json=WANTED, headers=runner)).status_code == 201
        for elsewhere in ({"env": "prod"}, {"project": "bank"}):
            refused = await api.post("/leases", json={**WANTED, **elsewhere}, headers=runner)
            assert refused.status_code in {403, 404}, refused.text
        assert (await api.get("/tokens", headers=runner)).status_code == 403
        assert (await api.delete(f"/tokens/{made['id']}")).status_code == 204
    assert demo(database_url, token_file).returncode == 0
    assert token_file.read_text().strip() != token, "it was revoked"


async def test_the_keepers_token_gets_chores_of_the_shop_in_stage(database_url: str, tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    finished = demo(database_url, token_file, option="--keeper-token")
    assert finished.returncode == 0, finished.stderr
    keeper = {"Authorization": f"Bearer {token_file.read_text().strip()}"}
    async with api_client(test_settings(database_url)) as api:
        chore = await api.post("/leases", json={**WANTED, "purpose": "chore"}, headers=keeper)
        assert chore.status_code == 201, chore.text
        assert chore.json()["users"][0]["due"] == ["check"]
        elsewhere = {**WANTED, "project": "bank", "purpose": "chore"}
        assert (await api.post("/leases", json=elsewhere, headers=keeper)).status_code in {403, 404}


def test_a_file_that_cannot_be_written_is_one_line(database_url: str, tmp_path: Path) -> None:
    finished = demo(database_url, tmp_path / "nowhere/token")
    assert finished.returncode == 1
    (line,) = finished.stderr.splitlines()
    assert "nowhere/token" in line
