"""Secrets and one-time passwords of a user, and the changes that its holder writes back."""

import asyncio
import re
from contextlib import suppress
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from botfarm.crypto.key_ring import KeyRingError
from botfarm.db.leasing import lease_queries
from botfarm.errors import LeaseLapsedError, NoSuchUserError, NotTheHolderError
from support.farm import OTHER_RUNNER, PASSWORD, RUNNER, Farm
from support.http import LEASE, assert_problem, create_project, create_user

SEED = "JBSWY3DPEHPK3PXP"
SECRETS = {"api_key": "k-1", "storage": {"cookies": [{"name": "sid", "value": "v-1"}]}}


async def lease_of(api: httpx.AsyncClient, **fields: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    project = await create_project(api)
    await create_user(api, project, **fields)
    lease = (await api.post("/leases", json=LEASE)).json()
    return lease, lease["users"][0]


@pytest.mark.usefixtures("code_clock")
async def test_the_holder_gets_all_of_them_and_the_table_none_in_clear(
    api: httpx.AsyncClient, farm: Farm
) -> None:
    lease, user = await lease_of(api, secrets=SECRETS, totp_seed=SEED)
    assert (user["password"], user["secrets"]) == (PASSWORD, SECRETS)
    assert re.fullmatch(r"\d{6}", user["totp"]["code"])
    assert user["totp"]["expires_in"] == 30
    stored = str(await farm.sql.fetchval("SELECT u::text FROM users AS u"))
    assert not any(value in stored for value in (PASSWORD, "api_key", "k-1", "cookies", SEED))
    seen = (await api.get(f"/users/{user['id']}")).json()
    assert (seen["has_secrets"], seen["has_totp"]) == (True, True)
    released = (await api.post(f"/leases/{lease['id']}/release")).json()["users"][0]
    assert not {"password", "secrets", "totp"} & released.keys()


async def test_a_user_without_them_shows_none(api: httpx.AsyncClient) -> None:
    _, user = await lease_of(api)
    assert "secrets" not in user
    assert "totp" not in user
    seen = (await api.get(f"/users/{user['id']}")).json()
    assert (seen["has_secrets"], seen["has_totp"]) == (False, False)


async def test_secrets_of_any_shape_come_back_as_they_were(api: httpx.AsyncClient) -> None:
    secrets = {
        "text": "ä\U0001f600",
        "list": [1, 2.5, None, True],
        "nothing": {},
        "deep": {"a": {"b": ["c"]}},
    }
    _, user = await lease_of(api, secrets=secrets)
    assert user["secrets"] == secrets


async def test_merged_secrets_have_a_maximum_size(api: httpx.AsyncClient) -> None:
    half = "x" * 130_000
    lease, user = await lease_of(api, secrets={"a": half})
    paths = (f"/users/{user['id']}", f"/leases/{lease['id']}/users/{user['id']}")
    assert (await api.patch(paths[0], json={"secrets": {"b": half}})).status_code == 200
    for path in paths:
        answer = await api.patch(path, json={"secrets": {"c": half}})
        assert assert_problem(answer, 422, "invalid-request")["errors"][0]["field"] == "secrets"
        assert half not in answer.text
    secrets = (await api.get(f"/leases/{lease['id']}")).json()["users"][0]["secrets"]
    assert set(secrets) == {"a", "b"}
    for path, gone in zip(paths, ("a", "c"), strict=True):  # removed secrets make room
        assert (await api.patch(path, json={"secrets": {"c": half, gone: None}})).status_code == 200


async def test_secrets_have_a_size(api: httpx.AsyncClient) -> None:
    project = await create_project(api)
    body = {
        "login": "a@shop.test",
        "password": PASSWORD,
        "project_id": project,
        "env": "stage",
        "domain": "regular",
    }
    answer = await api.post("/users", json={**body, "secrets": {"a": "x" * 262_144}})
    assert_problem(answer, 422, "invalid-request")
    assert (await api.post("/users", json={**body, "secrets": {"a": "x" * 262_000}})).status_code == 201


async def test_a_patch_merges_secrets_by_name_and_null_removes(api: httpx.AsyncClient) -> None:
    project = await create_project(api)
    user = await create_user(api, project, secrets=SECRETS, totp_seed=SEED)
    path = f"/users/{user['id']}"

    async def seen() -> dict[str, Any]:
        lease = (await api.post("/leases", json=LEASE)).json()
        await api.post(f"/leases/{lease['id']}/release")
        return dict(lease["users"][0])

    await api.patch(path, json={"secrets": {"api_key": "k-2", "more": 1}})
    assert (await seen())["secrets"] == {**SECRETS, "api_key": "k-2", "more": 1}
    await api.patch(path, json={"secrets": {"storage": None, "more": None}})
    assert (await seen())["secrets"] == {"api_key": "k-2"}
    await api.patch(path, json={"labels": {"a": "b"}})
    kept = await seen()
    assert (kept["secrets"], kept["password"]) == ({"api_key": "k-2"}, PASSWORD)
    changed = (await api.patch(path, json={"secrets": None, "totp_seed": None})).json()
    assert (changed["has_secrets"], changed["has_totp"]) == (False, False)
    assert not {"secrets", "totp"} & (await seen()).keys()


@pytest.mark.usefixtures("code_clock")
async def test_imported_users_may_have_secrets_and_a_seed(api: httpx.AsyncClient) -> None:
    project = await create_project(api)
    line = (
        f'{{"login": "a@shop.test", "password": "p", "project_id": "{project}", "env": "stage", '
        f'"domain": "regular", "secrets": {{"a": 1}}, "totp_seed": "{SEED}"}}'
    )
    headers = {"Content-Type": "application/x-ndjson"}
    assert (await api.post("/users/import", content=line, headers=headers)).json()["created"] == 1
    user = (await api.post("/leases", json=LEASE)).json()["users"][0]
    assert (user["secrets"], len(user["totp"]["code"])) == ({"a": 1}, 6)


class TestWriteBack:
    async def test_the_next_holder_gets_what_the_last_holder_wrote_back(self, api: httpx.AsyncClient) -> None:
        lease, user = await lease_of(api, secrets=SECRETS)
        path = f"/leases/{lease['id']}/users/{user['id']}"
        body = {"password": "changed by a test", "secrets": {"storage": {"cookies": []}, "api_key": None}}
        written = (await api.patch(path, json=body)).json()
        assert (written["password"], written["secrets"]) == (
            "changed by a test",
            {"storage": {"cookies": []}},
        )
        await api.post(f"/leases/{lease['id']}/release")
        after = (await api.post("/leases", json=LEASE)).json()["users"][0]
        assert (after["password"], after["secrets"]) == (written["password"], written["secrets"])

    async def test_fields_that_are_not_given_stay(self, api: httpx.AsyncClient) -> None:
        lease, user = await lease_of(api, secrets=SECRETS)
        path = f"/leases/{lease['id']}/users/{user['id']}"
        assert (await api.patch(path, json={})).json()["secrets"] == SECRETS
        assert (await api.patch(path, json={"secrets": {}})).json()["password"] == PASSWORD

    async def test_nothing_to_write_is_a_reading(self, api: httpx.AsyncClient, farm: Farm) -> None:
        lease, user = await lease_of(api, secrets=SECRETS)
        before = await farm.sql.fetchval("SELECT xmin::text FROM users")
        assert (await api.patch(f"/leases/{lease['id']}/users/{user['id']}", json={})).status_code == 200
        assert await farm.sql.fetchval("SELECT xmin::text FROM users") == before
        entry = (await api.get("/audit", params={"action": "write_back"})).json()["items"][0]
        assert entry["details"] == {"user_id": user["id"], "written": []}

    async def test_only_the_holder_writes(self, farm: Farm) -> None:
        pool = await farm.pool(2)
        lease, other = await farm.acquire(pool), await farm.acquire(pool)
        write = farm.services.lease_credentials.write_back
        with pytest.raises(NotTheHolderError):
            await write(OTHER_RUNNER, lease.id, lease.users[0].id, password="x", secrets={})
        for user_id in (uuid4(), other.users[0].id):
            with pytest.raises(NoSuchUserError):
                await write(RUNNER, lease.id, user_id, password="x", secrets={})

    async def test_after_the_lease_nothing_is_written(self, farm: Farm) -> None:
        pool = await farm.pool(1)
        released = await farm.acquire(pool)
        await farm.services.leases.release(RUNNER, released.id)
        expired = await farm.acquire(pool)
        await farm.expire(expired.id, rested=True)
        before = await farm.sql.fetchval("SELECT u::text FROM users AS u")
        for lease in (released, expired):
            with pytest.raises(LeaseLapsedError):
                await farm.services.lease_credentials.write_back(
                    RUNNER, lease.id, lease.users[0].id, password="too late", secrets={"a": 1}
                )
            with pytest.raises(LeaseLapsedError):
                await farm.services.one_time_codes.get(RUNNER, lease.id, lease.users[0].id)
        assert await farm.sql.fetchval("SELECT u::text FROM users AS u") == before

    async def test_a_write_back_that_waited_past_the_expiry_is_refused(self, farm: Farm) -> None:
        lease = await farm.acquire(await farm.pool(1), ttl_seconds=1)
        async with farm.sql.transaction():
            await farm.sql.execute("SELECT 1 FROM users FOR UPDATE")
            writing = asyncio.create_task(
                farm.services.lease_credentials.write_back(
                    RUNNER, lease.id, lease.users[0].id, password="too late", secrets={}
                )
            )
            await farm.until_blocked()
            await farm.sql.execute("SELECT pg_sleep_until($1)", lease.expires_at)
        with pytest.raises(LeaseLapsedError):
            await writing

    async def test_the_next_holder_waits_for_a_write_under_way(self, farm: Farm) -> None:
        """A write-back in time counts, and no acquire gets the user with the old password meanwhile."""
        pool = await farm.pool(1)
        lease = await farm.acquire(pool)
        user_id = lease.users[0].id
        async with farm.database.transaction() as session:
            assert await lease_queries.lock_user_of_lease(session, lease.id, user_id, principal=RUNNER.name)
            releasing = asyncio.create_task(farm.services.leases.release(RUNNER, lease.id))
            await farm.until_blocked()
            await lease_queries.write_back(
                session, user_id, password=None, secrets="written", session_expires_at=None
            )
        await releasing
        assert await farm.sql.fetchval("SELECT secrets FROM users") == "written"

    async def test_a_password_changed_meanwhile_is_not_lost(self, farm: Farm) -> None:
        """A manager sets the password while the holder writes secrets; both changes stay."""
        pool = await farm.pool(1)
        lease = await farm.acquire(pool)
        user_id = lease.users[0].id
        async with farm.sql.transaction():
            await farm.sql.execute("SELECT 1 FROM users FOR UPDATE")
            writing = asyncio.create_task(
                farm.services.lease_credentials.write_back(
                    RUNNER, lease.id, user_id, password=None, secrets={"a": 1}
                )
            )
            await farm.until_blocked()
            changed = farm.services.users._key_ring.encrypt("rotated", row_id=user_id, field="password")
            await farm.sql.execute("UPDATE users SET password = $1", changed)
        written = await writing
        assert (written.password, written.secrets) == ("rotated", {"a": 1})


async def test_a_value_moved_to_another_user_does_not_decrypt(farm: Farm) -> None:
    pool = await farm.pool(2)
    first: UUID = await farm.sql.fetchval("SELECT id FROM users ORDER BY id LIMIT 1")
    ring = farm.services.users._key_ring
    await farm.sql.execute(
        "UPDATE users SET secrets = $1", ring.encrypt('{"a": 1}', row_id=first, field="secrets")
    )
    read = []
    for _ in range(2):
        with suppress(KeyRingError):
            read += (await farm.acquire(pool)).users
    assert [user.id for user in read] == [first]
