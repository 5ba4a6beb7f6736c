"""Imports that change users which are there, beside tests, keepers and other imports that use them."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from botfarm.db.leasing import advisory_locks
from botfarm.domain.health import Health
from botfarm.domain.leases import Outcome, Reason
from botfarm.domain.pools import Pool
from botfarm.domain.users import ImportResult, LineError, OnError, User, UserChanges, UserLine, UserState
from botfarm.errors import ImportRejectedError
from botfarm.services.stock import import_updates
from support.app import api_client
from support.farm import KEEPER, MANAGER, PASSWORD, RUNNER, Farm, test_settings
from support.http import LEASE, assert_problem, create_project, create_user
from support.import_lines import imported, post, user

NEW = "Passw0rd-2"
SEED, OTHER_SEED = "JBSWY3DPEHPK3PXP", "otpauth://totp/Shop:ann?secret=GEZDGNBVGY3TQOJQ&algorithm=SHA256"


async def update(farm: Farm, *users: User, **fields: Any) -> ImportResult:
    """Imports a line for each user: its new password, unless the fields say otherwise."""

    async def lines() -> AsyncIterator[UserLine | LineError]:
        for number, each in enumerate(users, start=1):
            said = {"password": NEW, "pool": each.pool, "labels": {}, **fields}
            yield UserLine(number, each.login, **said)

    return await farm.services.importing.import_users(MANAGER, lines(), on_error=OnError.UPDATE)


def counts(result: ImportResult) -> tuple[int, int, int]:
    return result.created, result.updated, result.unchanged


def codes(rejected: pytest.ExceptionInfo[ImportRejectedError]) -> list[tuple[int, str, str]]:
    errors = rejected.value.details["errors"]
    return [(each["line"], each["field"], each["code"]) for each in errors]


@asynccontextmanager
async def held_up_at(farm: Farm, pool: Pool, importing: Any) -> AsyncIterator[asyncio.Task[ImportResult]]:
    """The import has compared all users, and waits for the lock of the pool until the block ends."""
    async with farm.database.transaction() as session:
        await advisory_locks.lock_pool(session, pool)
        task = asyncio.create_task(importing)
        await farm.until_blocked()
        yield task


async def users_of(farm: Farm, pools: Iterable[Pool]) -> list[User]:
    return [await farm.user(pool) for pool in pools]


async def test_a_user_that_is_there_gets_what_its_line_says_and_keeps_the_rest(
    api: httpx.AsyncClient,
) -> None:
    project_id = await create_project(api)
    there = {"secrets": {"pin": 7, "card": "1"}, "totp_seed": SEED, "labels": {"team": "red", "plan": "free"}}
    await create_user(api, project_id, login="u1@shop.test", **there)
    said = {"password": NEW, "secrets": {"pin": 8}, "labels": {"plan": "paid"}}
    lines = [user(project_id, 1, login="U1@shop.test", **said), user(project_id, 2)]
    assert (await post(api, lines, on_error="update")).json() == imported(created=1, updated=1)
    assert (await post(api, lines, on_error="update")).json() == imported(unchanged=2)
    lease = (await api.post("/leases", json={**LEASE, "labels": {"plan": "paid"}})).json()
    (found,) = lease["users"]
    assert (found["login"], found["password"]) == ("u1@shop.test", NEW)
    assert found["secrets"] == {"pin": 8, "card": "1"}
    assert found["labels"] == {"team": "red", "plan": "paid"}
    assert (await api.get(f"/users/{found['id']}")).json()["has_totp"]


async def test_a_null_removes_a_secret_and_a_line_may_bring_a_seed(api: httpx.AsyncClient) -> None:
    project_id = await create_project(api)
    there = await create_user(api, project_id, login="u1@shop.test", secrets={"pin": 7})
    line = user(project_id, 1, secrets={"pin": None}, totp_seed=OTHER_SEED)
    assert (await post(api, [line], on_error="update")).json() == imported(updated=1)
    assert (await post(api, [line], on_error="update")).json() == imported(unchanged=1)
    shown = (await api.get(f"/users/{there['id']}")).json()
    assert (shown["has_secrets"], shown["has_totp"]) == (False, True)


async def test_with_a_bad_line_nobody_is_changed(api: httpx.AsyncClient) -> None:
    project_id = await create_project(api)
    for number, domain in ((1, "regular"), (2, "canary"), (3, "regular")):
        await create_user(api, project_id, login=f"u{number}@shop.test", domain=domain)
    too_many = {f"key-{number}": "x" for number in range(64)}
    await api.post("/users/bulk", json={"action": "label", "labels": {"a": "b"}, "filter": {"all": True}})
    lines = [
        user(project_id, 1, password=NEW),
        user(project_id, 2, password=NEW),
        user(project_id, 3, labels=too_many),
        user(project_id, 1, password="another"),
        user(project_id, 9),
    ]
    problem = assert_problem(await post(api, lines, on_error="update"), 422, "invalid-request")
    assert [(each["line"], each["field"], each["code"]) for each in problem["errors"]] == [
        (2, "domain", "other-domain"),
        (3, "labels", "invalid"),
        (4, "login", "duplicate"),
    ]
    users = (await api.get("/users")).json()["items"]
    assert len(users) == 3
    leases = [(await api.post("/leases", json=LEASE)).json() for _ in range(2)]
    assert {lease["users"][0]["password"] for lease in leases} == {PASSWORD}


async def test_the_audit_says_who_was_changed_and_never_to_what(api: httpx.AsyncClient) -> None:
    project_id = await create_project(api)
    there = await create_user(api, project_id, login="u1@shop.test")
    lines = [user(project_id, 1, password=NEW, secrets={"pin": NEW}), user(project_id, 2)]
    await post(api, lines, on_error="update")
    (history,) = [
        entry
        for entry in (await api.get(f"/users/{there['id']}/history")).json()["items"]
        if entry["action"] == "update_user"
    ]
    assert history["details"] == {"import": True, "password": "changed", "secrets": "changed"}
    audit = await api.get("/audit", params={"action": "import_users"})
    assert [entry["details"] for entry in audit.json()["items"]] == [
        {"domain": "regular", "created": 1, "updated": 1}
    ]
    assert NEW not in (await api.get("/audit")).text


async def test_credentials_under_a_key_that_is_lost_are_replaced(farm: Farm) -> None:
    pool = await farm.pool(0)
    there = await farm.user(pool)
    await farm.sql.execute("UPDATE users SET password = replace(password, 'test', 'gone')")
    assert counts(await update(farm, there)) == (0, 1, 0)
    assert (await farm.acquire(pool)).users[0].password == NEW


async def test_new_credentials_bring_back_a_user_whose_old_ones_were_rejected(farm: Farm) -> None:
    pool = await farm.pool(0, quarantine_after=1, quarantine_share=1)
    there = await farm.user(pool)
    await farm.release(await farm.acquire(pool), Outcome.BROKEN, Reason.CREDENTIAL_REJECTED)
    assert (await farm.seen(there.id)).state is UserState.QUARANTINED
    assert counts(await update(farm, there, password=PASSWORD, labels={"a": "b"})) == (0, 1, 0)
    assert (await farm.seen(there.id)).state is UserState.QUARANTINED
    assert counts(await update(farm, there)) == (0, 1, 0)
    after = await farm.seen(there.id)
    by_hand = await farm.user(pool)
    await farm.release(await farm.acquire(pool), Outcome.BROKEN, Reason.CREDENTIAL_REJECTED)
    changed = await farm.services.users.update(MANAGER, by_hand.id, UserChanges(password=NEW))
    assert (after.state, after.health, after.status_reason) == (
        changed.state,
        changed.health,
        changed.status_reason,
    )
    assert (after.state, after.health) == (UserState.DIRTY, Health.UNKNOWN)


async def test_a_leased_user_is_changed_as_by_hand_and_its_lease_goes_on(farm: Farm) -> None:
    pool = await farm.pool(0)
    there = await farm.user(pool)
    lease = await farm.acquire(pool)
    assert counts(await update(farm, there)) == (0, 1, 0)
    assert (await farm.release(lease)).ended_at is not None
    assert (await farm.seen(there.id)).lease_id == lease.id


async def test_a_rotation_that_is_under_way_loses_no_password(farm: Farm) -> None:
    """The keeper may have set the pending password already. An old file must not make the farm forget it."""
    pool = await farm.pool(0, rotate_on_release=True)
    there, other = await users_of(farm, [pool, pool])
    for lease in [await farm.acquire(pool), await farm.acquire(pool)]:
        await farm.release(lease)
    chore = await farm.chore(pool, labels={})
    rotated = there if chore.users[0].id == there.id else other
    pending = await farm.services.lease_credentials.start_rotation(
        KEEPER, chore.id, rotated.id, password=None
    )
    with pytest.raises(ImportRejectedError) as rejected:
        await update(farm, there, other)
    line = 1 if rotated is there else 2
    assert codes(rejected) == [(line, "password", "rotation-pending")]
    assert counts(await update(farm, there, other, password=PASSWORD, labels={"a": "b"})) == (0, 2, 0)
    confirmed = await farm.services.lease_credentials.confirm_rotation(KEEPER, chore.id, rotated.id)
    assert confirmed.password == pending


async def test_a_rotation_that_begins_while_the_import_waits_stops_it(farm: Farm) -> None:
    pool = await farm.pool(0, rotate_on_release=True)
    there = await farm.user(pool)
    await farm.release(await farm.acquire(pool))
    chore = await farm.chore(pool)
    async with held_up_at(farm, pool, update(farm, there)) as importing:
        await farm.services.lease_credentials.start_rotation(KEEPER, chore.id, there.id, password=None)
    with pytest.raises(ImportRejectedError) as rejected:
        await importing
    assert codes(rejected) == [(1, "password", "rotation-pending")]
    confirmed = await farm.services.lease_credentials.confirm_rotation(KEEPER, chore.id, there.id)
    assert confirmed.password not in {PASSWORD, NEW}


async def test_what_was_written_meanwhile_is_seen_under_the_locks(farm: Farm) -> None:
    """A secret that a test writes back while the import waits stays, beside that of the line."""
    pool = await farm.pool(0)
    there = await farm.user(pool)
    lease = await farm.acquire(pool)
    line = update(farm, there, secrets={"pin": 7})
    async with held_up_at(farm, pool, line) as importing:
        await farm.services.lease_credentials.write_back(
            RUNNER, lease.id, there.id, password=None, secrets={"cookie": "c"}
        )
    assert counts(await importing) == (0, 1, 0)
    await farm.release(lease)
    again = await farm.acquire(pool)
    assert (again.users[0].password, again.users[0].secrets) == (NEW, {"cookie": "c", "pin": 7})


@pytest.mark.parametrize("change", ["deleted", "renamed"])
async def test_a_user_that_goes_away_meanwhile_is_an_error_and_nobody_is_changed(
    farm: Farm, change: str
) -> None:
    pool = await farm.pool(0)
    there, other = await users_of(farm, [pool, pool])
    async with held_up_at(farm, pool, update(farm, there, other)) as importing:
        if change == "deleted":
            await farm.services.users.delete(MANAGER, there.id)
        else:
            await farm.services.users.update(MANAGER, there.id, UserChanges(login="renamed@shop.test"))
    with pytest.raises(ImportRejectedError) as rejected:
        await importing
    assert codes(rejected) == [(1, "login", "changed-meanwhile")]
    assert counts(await update(farm, other, password=PASSWORD)) == (0, 0, 1)


async def test_an_import_that_changes_nothing_takes_no_lock(farm: Farm) -> None:
    pool = await farm.pool(0)
    there = await farm.user(pool)
    async with farm.database.transaction() as session:
        await advisory_locks.lock_pool(session, pool)
        assert counts(await update(farm, there, password=PASSWORD)) == (0, 0, 1)


async def test_an_acquire_waits_for_users_that_an_import_is_changing(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Instead of finding no free user, though all are."""
    monkeypatch.setattr(import_updates, "BATCH", 1)
    pool = await farm.pool(0)
    users = sorted(await users_of(farm, [pool, pool]), key=lambda each: each.id)
    async with farm.database.transaction() as session:
        await import_updates.lock_users(session, [users[1].id])
        importing = asyncio.create_task(update(farm, *users))
        await farm.until_blocked()  # it has changed the first user, and waits for the second
        acquiring = asyncio.create_task(farm.acquire(pool))
        await farm.until_blocked(2)
    assert counts(await importing) == (0, 2, 0)
    assert (await acquiring).users[0].password == NEW


async def test_two_imports_of_the_same_users_at_once_do_not_deadlock(
    api: httpx.AsyncClient, database_url: str
) -> None:
    project_id = await create_project(api)
    lines = [user(project_id, n, domain=("regular", "canary")[n % 2]) for n in range(1_000)]
    await post(api, lines)
    there = [{**line, "password": NEW} for line in lines]
    new = [user(project_id, n) for n in range(1_000, 1_500)]
    other_way = [{**line, "password": "third"} for line in reversed([*there, *new])]
    async with api_client(test_settings(database_url)) as other:
        answers = await asyncio.gather(
            post(api, [*there, *new], on_error="update"), post(other, other_way, on_error="update")
        )
    results = [answer.json() for answer in answers]
    assert [result["errors"] for result in results] == [[], []]
    assert sum(result["created"] for result in results) == 500
    assert sum(result["updated"] for result in results) == 2_500


async def test_a_scope_hides_users_of_others(api: httpx.AsyncClient) -> None:
    project_id = await create_project(api)
    await create_user(api, project_id, login="u1@shop.test", env="prod")
    made = {"name": "m", "role": "manager", "projects": ["shop"], "envs": ["stage"]}
    token = (await api.post("/tokens", json=made)).json()["token"]
    api.headers["Authorization"] = f"Bearer {token}"
    answer = await post(api, [user(project_id, 1, env="prod", password=NEW)], on_error="update")
    problem = assert_problem(answer, 422, "invalid-request")
    assert problem["errors"] == [{"line": 1, "field": "env", "code": "forbidden"}]
