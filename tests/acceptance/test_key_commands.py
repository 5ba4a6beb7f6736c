"""`botfarm keys`, and servers whose ring does not fit what is stored: real commands, and what they show."""

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from botfarm.crypto.key_ring import generate_key
from botfarm.db.leasing import advisory_locks
from botfarm.services.upkeep.key_usage import KeyState
from support.farm import PASSWORD, TOKEN, Farm, open_farm
from support.postgres import temporary_folder, two_roles
from support.processes import run_botfarm, running_botfarm

K1, K2, K3 = (generate_key(each) for each in ("k1", "k2", "k3"))
_MATERIAL = re.compile(r"[A-Za-z0-9+/]{43}=")


@pytest.fixture
async def farm(database_url: str) -> AsyncIterator[Farm]:
    async with open_farm(database_url, encryption_keys=K1) as opened:
        yield opened


def environment(database_url: str, *ring: str) -> dict[str, str]:
    return {
        **two_roles(database_url),
        "BOTFARM_ENCRYPTION_KEYS": ",".join(ring),
        "BOTFARM_BOOTSTRAP_TOKEN": TOKEN,
        "BOTFARM_PORT": "0",
    }


def run(
    surroundings: Mapping[str, str], *arguments: str, exit_code: int = 0
) -> subprocess.CompletedProcess[str]:
    """No key is ever on standard error, and an error is one line."""
    finished = run_botfarm(*arguments, environment=surroundings)
    assert finished.returncode == exit_code, finished.stdout + finished.stderr
    assert "Traceback" not in finished.stderr
    assert not _MATERIAL.search(finished.stderr)
    assert PASSWORD not in finished.stdout + finished.stderr
    return finished


def last_line(finished: subprocess.CompletedProcess[str]) -> str:
    line = finished.stderr.splitlines()[-1]
    assert line.startswith("botfarm: ")
    return line


def test_a_key_is_made_under_a_name_that_a_ring_can_have() -> None:
    assert re.fullmatch(rf"k1:{_MATERIAL.pattern}\n", run({}, "keys", "generate").stdout)
    assert run({}, "keys", "generate", "--id", "2026-a").stdout.startswith("2026-a:")
    assert "must match" in last_line(run({}, "keys", "generate", "--id", "a,b", exit_code=1))


def test_rotate_needs_no_database_and_prints_the_ring_on_standard_output_alone() -> None:
    surroundings = {"BOTFARM_ENCRYPTION_KEYS": K1}
    added = run(surroundings, "keys", "rotate")
    (value,) = added.stdout.splitlines()
    assert value.startswith(f"{K1},k2:")
    assert last_line(added).endswith("botfarm keys rotate --id k2")

    moved = run({"BOTFARM_ENCRYPTION_KEYS": value}, "keys", "rotate", "--id", "k2", "--json")
    document = json.loads(moved.stdout)
    assert document == {
        "encryption_keys": f"{value.partition(',')[2]},{K1}",
        "id": "k2",
        "step": "moved",
        "next": "botfarm keys reencrypt",
    }
    assert "botfarm keys reencrypt" in moved.stderr
    assert "session cookies" in moved.stderr

    surroundings = {"BOTFARM_ENCRYPTION_KEYS": document["encryption_keys"]}
    same = run(surroundings, "keys", "rotate", "--id", "k2")
    assert same.stdout.strip() == document["encryption_keys"]
    assert last_line(same).endswith("first already: it encrypts. Next: botfarm keys reencrypt")
    assert "k1 is in the ring and does not encrypt" in run(surroundings, "keys", "rotate").stderr


@pytest.mark.parametrize("ring", ["", "k1:too-short", f"{K1},{K1}"], ids=["none", "short", "twice"])
@pytest.mark.parametrize("command", ["rotate", "drop k1"])
def test_a_ring_that_cannot_be_used_is_one_line(ring: str, command: str) -> None:
    finished = run({"BOTFARM_ENCRYPTION_KEYS": ring}, "keys", *command.split(), exit_code=1)
    assert not finished.stdout
    assert last_line(finished).startswith("botfarm: BOTFARM_ENCRYPTION_KEYS")
    assert "too-short" not in finished.stderr


def test_the_ring_may_be_in_a_mounted_file(tmp_path: Path) -> None:
    (tmp_path / "botfarm_encryption_keys").write_text(f"{K1}\n")
    added = run({"BOTFARM_SECRETS_DIR": str(tmp_path)}, "keys", "rotate")
    assert added.stdout.startswith(f"{K1},k2:")
    (tmp_path / "botfarm_encryption_keys").write_text(added.stdout)
    moved = run({"BOTFARM_SECRETS_DIR": str(tmp_path)}, "keys", "rotate", "--id", "k2")
    assert re.fullmatch(rf"k2:\S+,{re.escape(K1)}\n", moved.stdout)


async def test_the_way_from_one_key_to_another(farm: Farm, database_url: str) -> None:
    """The steps of docs/keys.md: after each, a server with that ring decrypts the values stored before."""
    pool = await farm.pool(2)

    async def restarted(ring: str) -> None:
        """A server with this ring leases a user and stores another."""
        async with serving(environment(database_url, ring)) as api:
            asked = {"project_id": str(pool.project_id), "env": "stage", "domain": "regular"}
            lease = await api.post("/leases", json={**asked, "count": 2})
            assert [user["password"] for user in lease.json()["users"]] == [PASSWORD] * 2, lease.text
            (await api.post(f"/leases/{lease.json()['id']}/release")).raise_for_status()
            created = await api.post(
                "/users", json={**asked, "login": f"{len(ring)}.{ring[:2]}@x.test", "password": PASSWORD}
            )
            assert created.status_code == 201, created.text

    def keys(ring: str, *arguments: str, exit_code: int = 0) -> subprocess.CompletedProcess[str]:
        return run(environment(database_url, ring), "keys", *arguments, exit_code=exit_code)

    readable = keys(K1, "rotate").stdout.strip()
    await restarted(readable)
    assert statuses(keys(readable, "status", "--json")) == {"k1": ("encrypts", 3), "k2": ("decrypts", 0)}

    encrypting = keys(readable, "rotate", "--id", "k2").stdout.strip()
    await restarted(encrypting)
    refused = keys(encrypting, "drop", "k1", exit_code=1)
    assert not refused.stdout
    assert "k1 is still in use (stored values under it: 3): run `botfarm keys reencrypt` first" in last_line(
        refused
    )
    assert "k2 is the key that encrypts" in last_line(keys(encrypting, "drop", "k2", exit_code=1))
    assert "only k2, k1" in last_line(keys(encrypting, "drop", "k7", exit_code=1))

    done = keys(encrypting, "reencrypt")
    assert done.stdout == "Encrypted 3 values of 3 users anew with k2.\n"
    assert last_line(done) == "botfarm: no value is under k1 any more: botfarm keys drop k1"
    again = json.loads(keys(encrypting, "reencrypt", "--json").stdout)
    assert again == {"active": "k2", "users": 0, "values": 0, "left": {}, "missing": {}, "unreadable": {}}
    assert await farm.sql.fetchval("SELECT count(*) FROM audit WHERE action = 'reencrypt'") == 2

    dropped = keys(encrypting, "drop", "k1")
    assert "backup" in dropped.stderr
    assert "sign in again" in dropped.stderr
    await restarted(dropped.stdout.strip())
    table = keys(dropped.stdout.strip(), "status").stdout
    assert table.splitlines() == ["ID  STATE     VALUES", "k2  encrypts  5"]


def statuses(finished: subprocess.CompletedProcess[str]) -> dict[str, tuple[str, int]]:
    return {key["id"]: (key["state"], key["values"]) for key in json.loads(finished.stdout)["keys"]}


@asynccontextmanager
async def serving(surroundings: Mapping[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    with running_botfarm("serve", environment=surroundings) as process:
        url = process.url()
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(base_url=f"{url}/api/v1", headers=headers) as api:
            await until_ready(api, 200, "ok")
            yield api
        process.terminate()
        assert process.wait() == 0, process.output


async def until_ready(api: httpx.AsyncClient, status: int, words: str) -> None:
    async with asyncio.timeout(60):
        while True:
            answer = await api.get(str(api.base_url).replace("/api/v1/", "/readyz"))
            if answer.status_code == status and words in answer.text:
                return
            await asyncio.sleep(0.05)


async def test_a_key_that_is_missing_ends_status_and_reencrypt_with_1(farm: Farm, database_url: str) -> None:
    await farm.pool(2)
    async with open_farm(database_url, encryption_keys=K3) as other:
        await other.pool(1)
    surroundings = environment(database_url, K2, K1)
    status = run(surroundings, "keys", "status", exit_code=1)
    assert status.stdout.splitlines()[1:] == ["k2  encrypts  0", "k1  decrypts  2", "k3  missing   1"]
    assert "lacks the key k3 (stored values under it: 1): put it back, after the first" in last_line(status)
    done = run(surroundings, "keys", "reencrypt", "--json", exit_code=1)
    assert json.loads(done.stdout) == {
        "active": "k2", "users": 2, "values": 2, "left": {}, "missing": {"k3": 1}, "unreadable": {}
    }  # fmt: skip
    assert "BOTFARM_ENCRYPTION_KEYS lacks k3 (values: 1)" in last_line(done)


async def test_a_user_with_a_value_that_no_key_decrypts_is_named(farm: Farm, database_url: str) -> None:
    pool = await farm.pool(1)
    user = await farm.user(pool)
    await farm.sql.execute("UPDATE users SET secrets = password WHERE id = $1", user.id)
    done = run(environment(database_url, K2, K1), "keys", "reencrypt", exit_code=1)
    assert f"user {user.id}: cannot be decrypted: secrets" in done.stderr
    assert "1 user with credentials that no key decrypts" in last_line(done)


@pytest.mark.parametrize("command", ["serve", "dev"])
@pytest.mark.parametrize("ring", [[K2], [generate_key("k1")]], ids=["lacks", "wrong"])
async def test_a_server_does_not_start_without_a_key_that_is_in_use(
    farm: Farm, database_url: str, command: str, ring: list[str]
) -> None:
    await farm.pool(1)
    with temporary_folder() as home:
        surroundings = {"HOME": str(home), "BOTFARM_DATA_DIR": str(home / "farm")}
        refused = run({**environment(database_url, *ring), **surroundings}, command, exit_code=1)
    line = last_line(refused)
    assert "key k1" in line
    assert "put" in line
    assert await farm.sql.fetchval("SELECT count(*) FROM users") == 1, "dev has added nothing"


async def test_a_database_that_is_away_is_no_reason_not_to_start(empty_database: str) -> None:
    """Neither is one without our schema: whatever comes up first."""
    nowhere = environment("postgresql://nobody@127.0.0.1:1/nothing", K1)
    for surroundings, words in (
        (nowhere, "does not answer"),
        (environment(empty_database, K1), "botfarm migrate"),
    ):
        with running_botfarm("serve", environment=surroundings) as process:
            url = process.url()
            async with httpx.AsyncClient(base_url=f"{url}/api/v1") as api:
                await until_ready(api, 503, words)


async def test_a_server_can_be_ended_while_it_waits_for_the_database(farm: Farm, database_url: str) -> None:
    async with farm.sql.transaction():
        await farm.sql.execute("LOCK TABLE users")
        with running_botfarm("serve", environment=environment(database_url, K1)) as process:
            await until_waiting(farm.sql)
            process.terminate()
            assert process.wait(seconds=10) == 0, process.output
            assert "serving" not in process.output


async def test_a_worker_needs_no_keys(farm: Farm, database_url: str) -> None:
    await farm.pool(1)
    surroundings = {**two_roles(database_url), "BOTFARM_WORKER_PORT": "0"}
    with running_botfarm("worker", environment=surroundings) as process:
        url = process.url()
        async with httpx.AsyncClient(base_url=f"{url}/api/v1") as probes:
            await until_ready(probes, 200, "ok")


async def test_a_killed_reencryption_goes_on_where_it_stopped(farm: Farm, database_url: str) -> None:
    first, second = sorted([await farm.pool(3), await farm.pool(2)], key=lambda pool: pool.project_id)
    total = await farm.sql.fetchval("SELECT count(*) FROM users WHERE project_id = $1", first.project_id)
    surroundings = environment(database_url, K2, K1)
    async with farm.database.transaction() as session:
        await advisory_locks.lock_pool(session, second)
        with running_botfarm("keys", "reencrypt", environment=surroundings) as process:
            await until_waiting(farm.sql)
            process.kill()
    assert await values(database_url) == {"k1": 5 - total, "k2": total}
    assert run(surroundings, "keys", "reencrypt").stdout.startswith(f"Encrypted {5 - total} values of ")
    assert await values(database_url) == {"k1": 0, "k2": 5}


async def values(database_url: str) -> dict[str, int]:
    async with open_farm(database_url, encryption_keys=f"{K2},{K1}") as farm:
        uses = await farm.services.key_usage.uses()
    assert {use.state for use in uses} <= {KeyState.ENCRYPTS, KeyState.DECRYPTS}
    return {use.key_id: use.values for use in uses}


async def until_waiting(sql: asyncpg.Connection) -> None:
    """Waits until a session waits for a lock."""
    async with asyncio.timeout(60):
        while not await sql.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0.01)


async def test_a_key_command_without_a_database_ends_with_one_line(empty_database: str) -> None:
    nowhere: dict[str, Any] = environment("postgresql://nobody:canary@127.0.0.1:1/nothing", K2, K1)
    for arguments in (("status",), ("reencrypt",), ("drop", "k1")):
        for surroundings in (nowhere, environment(empty_database, K2, K1)):
            finished = run(surroundings, "keys", *arguments, exit_code=1)
            assert "the database cannot be used" in last_line(finished)
            assert not finished.stdout
            assert "canary" not in finished.stderr
