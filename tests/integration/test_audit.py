"""The audit: every action once, with principal, address and details; and it cannot be changed."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
from sqlalchemy import text

from botfarm.db.access import audit_queries
from botfarm.domain.access import Principal, Role, Scope
from botfarm.domain.audit import AuditFilter
from botfarm.errors import NoSuchUserError, UserBusyError
from support.farm import MANAGER, Farm, open_farm
from support.http import LEASE, assert_problem, create_project, create_user

SEED = "JBSWY3DPEHPK3PXP"


async def entries(api: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    answer = await api.get("/audit", params=query)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


@pytest.mark.usefixtures("code_clock")
async def test_every_action_is_audited_once_with_its_details(api: httpx.AsyncClient) -> None:
    project = await create_project(api)
    user = await create_user(api, project, totp_seed=SEED)
    await api.patch(f"/users/{user['id']}", json={"password": "new", "labels": {"a": "b"}})
    line = {
        "login": "i@shop.test",
        "password": "p",
        "project_id": project,
        "env": "prod",
        "domain": "regular",
    }
    await api.post(
        "/users/import", content=json.dumps(line), headers={"Content-Type": "application/x-ndjson"}
    )
    lease = (await api.post("/leases", json=LEASE, headers={"Idempotency-Key": "k"})).json()
    await api.post("/leases", json=LEASE, headers={"Idempotency-Key": "k"})
    await api.get(f"/leases/{lease['id']}")
    under = f"/leases/{lease['id']}/users/{user['id']}"
    await api.get(f"{under}/totp")
    await api.patch(under, json={"secrets": {"a": 1}})
    await api.post(f"/leases/{lease['id']}/renew")
    await api.post(f"/leases/{lease['id']}/force_release", json={"reason": "stuck"})
    await api.get(f"/leases/{lease['id']}")  # ended, so it has no credentials to read
    await api.patch(f"/projects/{project}", json={"cooldown": 5})
    token = (
        await api.post("/tokens", json={"name": "ci", "role": "viewer", "projects": ["*"], "envs": ["*"]})
    ).json()
    await api.delete(f"/tokens/{token['id']}")
    await api.delete(f"/users/{user['id']}")
    found = await entries(api)
    assert [(entry["action"], entry["target"]) for entry in found] == [
        ("delete_user", "user"),
        ("delete_token", "token"),
        ("create_token", "token"),
        ("update_project", "project"),
        ("force_release_lease", "lease"),
        ("write_back", "lease"),
        ("get_totp", "lease"),
        ("get_lease", "lease"),
        ("replay_acquire_lease", "lease"),
        ("acquire_lease", "lease"),
        ("import_users", "project"),
        ("update_user", "user"),
        ("create_user", "user"),
        ("create_project", "project"),
    ]
    assert {entry["principal"] for entry in found} == {"bootstrap"}
    assert {entry["address"] for entry in found} == {"127.0.0.1"}
    by_action = {entry["action"]: entry for entry in found}
    assert by_action["update_user"]["details"] == {"labels": {"a": "b"}, "password": "changed"}
    assert by_action["force_release_lease"]["details"] == {"reason": "stuck", "holder": "bootstrap"}
    assert by_action["write_back"]["details"] == {"user_id": user["id"], "written": ["secrets"]}
    assert by_action["acquire_lease"]["details"]["user_ids"] == [user["id"]]
    assert by_action["acquire_lease"]["details"]["ended_by"] == "forced"
    assert by_action["update_project"]["details"] == {"cooldown": 5}


async def test_an_entry_names_the_request(api: httpx.AsyncClient) -> None:
    await create_project(api)
    answer = await api.get("/pools", headers={"X-Request-ID": "job-7"})
    assert answer.status_code == 200
    await api.post("/projects", json={"name": "bank"}, headers={"X-Request-ID": "job-7"})
    assert (await entries(api))[0]["request_id"] == "job-7"


async def test_filters_and_pages(api: httpx.AsyncClient) -> None:
    project = await create_project(api)
    users = [await create_user(api, project) for _ in range(3)]
    leases = [(await api.post("/leases", json=LEASE)).json() for _ in range(3)]
    everything = await entries(api)
    assert len(everything) == 7
    pages, cursor = [], None
    while True:
        page = (await api.get("/audit", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))).json()
        pages.append(page["items"])
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert [len(page) for page in pages] == [2, 2, 2, 1]
    assert [entry for page in pages for entry in page] == everything
    assert [e["target_id"] for e in await entries(api, action="create_user")] == [
        u["id"] for u in reversed(users)
    ]
    first = users[0]["id"]
    assert {e["action"] for e in await entries(api, target_id=first)} == {"create_user", "acquire_lease"}
    assert len(await entries(api, target_id=leases[0]["id"])) == 1
    assert len(await entries(api, project_id=project)) == 7
    assert await entries(api, principal="nobody") == []
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert await entries(api, since=soon) == []
    assert len(await entries(api, until=soon)) == 7
    assert_problem(await api.get("/audit", params={"since": "yesterday"}), 422, "invalid-request")
    assert_problem(await api.get("/audit", params={"cursor": "nonsense"}), 422, "invalid-request")


async def test_a_user_that_moves_is_in_the_audit_of_both_places(api: httpx.AsyncClient) -> None:
    shop, bank = await create_project(api), await create_project(api, name="bank")
    user = await create_user(api, shop)
    moved = await api.patch(
        f"/users/{user['id']}", json={"project_id": bank, "env": "prod", "login": "a@b.test"}
    )
    assert moved.status_code == 200, moved.text
    seen = {}
    for name, env in (("shop", "stage"), ("bank", "prod")):
        token = {"name": "m", "role": "manager", "projects": [name], "envs": [env]}
        made = (await api.post("/tokens", json=token)).json()["token"]
        answer = await api.get("/audit", headers={"Authorization": f"Bearer {made}"})
        (seen[name],) = [e for e in answer.json()["items"] if e["action"] == "update_user"]
    assert seen["shop"]["details"] == {"moved": "away"}, "and not where to"
    assert seen["bank"]["details"] == {
        "moved": "here",
        "project_id": bank,
        "env": "prod",
        "login": "a@b.test",
    }
    assert shop not in json.dumps(seen["bank"])
    assert seen["shop"]["request_id"] == seen["bank"]["request_id"], "who sees both sees where from and to"
    await api.patch(f"/users/{user['id']}", json={"domain": "canary"})
    assert len(await entries(api, action="update_user")) == 3, "within one place there is one"


async def test_a_manager_sees_what_was_done_in_its_scope(api: httpx.AsyncClient) -> None:
    shop, bank = await create_project(api), await create_project(api, name="bank")
    await create_user(api, shop)
    await create_user(api, shop, env="prod")
    await create_user(api, bank)
    token = (
        await api.post(
            "/tokens", json={"name": "m", "role": "manager", "projects": ["shop"], "envs": ["stage"]}
        )
    ).json()["token"]
    answer = await api.get("/audit", headers={"Authorization": f"Bearer {token}"})
    assert [(e["action"], e["env"]) for e in answer.json()["items"]] == [("create_user", "stage")]


async def test_a_renewal_from_elsewhere_is_a_reading_of_credentials(farm: Farm) -> None:
    lease = await farm.acquire(
        await farm.pool(1), Principal("ci", Role.RUNNER, MANAGER.scope, address="10.0.0.1")
    )
    for address in ("10.0.0.1", "10.6.6.6"):
        holder = Principal("ci", Role.RUNNER, MANAGER.scope, address=address, request_id="r")
        await farm.services.leases.renew(holder, lease.id, ttl_seconds=None)
    found = await farm.sql.fetch(
        "SELECT address, request_id, details FROM audit WHERE action = 'renew_lease'"
    )
    assert [tuple(row) for row in found] == [("10.6.6.6", "r", '{"taken_from": "10.0.0.1"}')]


async def test_a_deed_that_fails_leaves_no_entry(farm: Farm) -> None:
    pool = await farm.pool(1)
    before = await farm.sql.fetchval("SELECT count(*) FROM audit")
    lease = await farm.acquire(pool)
    elsewhere = Principal("m", Role.MANAGER, Scope(frozenset(), None))
    with pytest.raises(UserBusyError):
        await farm.services.users.delete(MANAGER, lease.users[0].id)
    with pytest.raises(NoSuchUserError):
        await farm.services.users.delete(elsewhere, lease.users[0].id)
    assert await farm.sql.fetchval("SELECT count(*) FROM audit") == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET principal = 'somebody else'",
        "DELETE FROM audit",
        "TRUNCATE audit",
        "WITH a AS (DELETE FROM audit RETURNING 1) SELECT * FROM a",
        "SET botfarm.retention = 'on'; DELETE FROM audit",
        "SET botfarm.retention = 'on'; TRUNCATE audit",
        "SET botfarm.retention = 'on'; UPDATE audit SET at = at - interval '2 days'",
    ],
)
async def test_the_audit_cannot_be_changed(farm: Farm, statement: str) -> None:
    await farm.pool(1)
    before = await farm.sql.fetch("SELECT * FROM audit")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
        await farm.sql.execute(statement)
    assert await farm.sql.fetch("SELECT * FROM audit") == before != []


async def test_retention_is_the_only_deletion(farm: Farm) -> None:
    await farm.pool(2)
    await farm.sql.execute("ALTER TABLE audit DISABLE TRIGGER append_only")
    await farm.sql.execute(
        "UPDATE audit SET at = at - interval '366 days' WHERE id = (SELECT min(id) FROM audit)"
    )
    await farm.sql.execute("ALTER TABLE audit ENABLE TRIGGER append_only")
    kept = await farm.sql.fetch("SELECT id FROM audit ORDER BY id OFFSET 1")
    assert await farm.services.maintenance.prune_audit(asyncio.Event()) == 1
    assert await farm.sql.fetch("SELECT id FROM audit ORDER BY id") == kept
    assert await farm.services.maintenance.prune_audit(asyncio.Event()) == 0


async def test_a_target_among_very_many_is_found_by_an_index(farm: Farm) -> None:
    await farm.sql.execute(
        """INSERT INTO audit (principal, action, target, target_id)
           SELECT 'p', 'update_user', 'user', gen_random_uuid() FROM generate_series(1, 20000)"""
    )
    await farm.sql.execute("ANALYZE audit")
    chosen = {"target_id": str(uuid4())}
    statement, parameters = audit_queries._chosen(
        audit_queries._DEEDS, audit_queries._DEED_CONDITIONS, chosen
    )
    scope = {"scope_projects": None, "scope_envs": None}
    async with farm.database.autocommit() as session:
        plan = await session.execute(
            text(f"EXPLAIN {statement.text}"), {**parameters, **scope, "before": 1_000_000, "limit": 101}
        )
    assert "ix_audit_target_id_id" in "\n".join(plan.scalars())


@pytest.mark.parametrize("chosen", [AuditFilter(action="create_token"), AuditFilter(target_id="an-operator")])
async def test_a_filter_that_no_lease_can_match_does_not_read_the_leases(
    farm: Farm, chosen: AuditFilter
) -> None:
    async with farm.sql.transaction():
        await farm.sql.execute("LOCK TABLE leases")
        page = await farm.services.audit.list(MANAGER.scope, chosen, cursor=None, limit=10)
    assert page.items == ()


async def test_a_long_history_has_more_patience_than_a_request(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botfarm.runtime.database_connections.REQUEST_PATIENCE", 0.1)
    slow = """
        SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND wait_event_type = 'Lock' AND clock_timestamp() - query_start > interval '0.6 seconds'"""
    # A connection of its own, because a transaction keeps its first snapshot of pg_stat_activity.
    watching = await asyncpg.connect(database_url)
    async with open_farm(database_url) as farm:
        async with farm.sql.transaction():
            await farm.sql.execute("LOCK TABLE leases")
            reading = asyncio.create_task(
                farm.services.audit.list(MANAGER.scope, AuditFilter(), cursor=None, limit=10)
            )
            while not reading.done() and not await watching.fetchval(slow):
                await asyncio.sleep(0.01)
        assert (await reading).items == ()
    await watching.close()
