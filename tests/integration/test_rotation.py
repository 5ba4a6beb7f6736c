"""A new password in two phases: whoever dies in between, no password is lost and no test gets a pending one."""

import re

import httpx
import pytest

from botfarm.domain.leases import Due, Lease, Outcome
from botfarm.domain.users import UserChanges, UserState
from botfarm.errors import LeaseLapsedError, NoRotationError, PoolExhaustedError, RotationPendingError
from support.farm import KEEPER, MANAGER, PASSWORD, RUNNER, Farm
from support.http import LEASE, assert_problem, create_project, create_user


async def start(farm: Farm, lease: Lease, password: str | None = None) -> str:
    return await farm.services.lease_credentials.start_rotation(
        KEEPER, lease.id, lease.users[0].id, password=password
    )


async def confirm(farm: Farm, lease: Lease) -> str | None:
    user = await farm.services.lease_credentials.confirm_rotation(KEEPER, lease.id, lease.users[0].id)
    return user.password


async def die(farm: Farm, lease: Lease) -> None:
    """A keeper that is killed: its lease expires."""
    await farm.expire(lease.id, rested=True)
    await farm.services.maintenance.reap()


async def test_a_whole_rotation(farm: Farm) -> None:
    pool = await farm.pool(1, rotate_on_release=True)
    await farm.release(await farm.acquire(pool))
    chore = await farm.chore(pool)
    assert chore.users[0].due == (Due.CLEAN, Due.ROTATE)
    assert (chore.users[0].password, chore.users[0].pending_password) == (PASSWORD, None)
    pending = await start(farm, chore)
    assert re.fullmatch(r"[A-Za-z0-9_.!-]{24}", pending)
    assert await confirm(farm, chore) == pending
    await farm.release(chore)
    test = await farm.acquire(pool)
    assert (test.users[0].password, test.users[0].pending_password) == (pending, None)
    stored = str(await farm.sql.fetchval("SELECT u::text FROM users AS u"))
    assert pending not in stored


async def test_a_keeper_that_dies_before_it_confirms_leaves_both_passwords_to_the_next(farm: Farm) -> None:
    pool = await farm.pool(1, rotate_every=1, clean_attempts=5, lock_delay=0)
    await farm.sql.execute("UPDATE users SET created_at = created_at - interval '1 minute'")
    first = await farm.chore(pool)
    pending = await start(farm, first)
    await die(farm, first)
    with pytest.raises(PoolExhaustedError):
        await farm.acquire(pool)
    second = await farm.chore(pool)
    assert (second.users[0].password, second.users[0].pending_password) == (PASSWORD, pending)
    assert second.users[0].due == (Due.CLEAN, Due.ROTATE)
    with pytest.raises(LeaseLapsedError):
        await confirm(farm, first)
    assert await confirm(farm, second) == pending
    await farm.release(second)
    assert (await farm.acquire(pool)).users[0].password == pending


async def test_a_keeper_that_dies_after_it_confirmed_has_lost_nothing(farm: Farm) -> None:
    pool = await farm.pool(1, cleaning="required", lock_delay=0)
    await farm.release(await farm.acquire(pool))
    first = await farm.chore(pool)
    pending = await start(farm, first)
    await confirm(farm, first)
    await die(farm, first)
    second = await farm.chore(pool)
    assert (second.users[0].password, second.users[0].pending_password) == (pending, None)


async def test_a_lost_answer_is_repeated_and_changes_nothing(farm: Farm) -> None:
    pool = await farm.pool(1, cleaning="required")
    await farm.release(await farm.acquire(pool))
    chore = await farm.chore(pool)
    pending = await start(farm, chore)
    assert await start(farm, chore) == pending
    assert await start(farm, chore, pending) == pending
    with pytest.raises(RotationPendingError):
        await start(farm, chore, "another one")
    assert await confirm(farm, chore) == pending
    assert await confirm(farm, chore) == pending


@pytest.mark.parametrize("outcome", [Outcome.OK, Outcome.DIRTY])
async def test_a_user_stays_dirty_while_a_password_is_pending(farm: Farm, outcome: Outcome) -> None:
    pool = await farm.pool(1, check_every=60)
    chore = await farm.chore(pool)
    await start(farm, chore)
    await farm.release(chore, outcome)
    user = await farm.seen(chore.users[0].id)
    assert (user.state, user.is_rotating) == (UserState.DIRTY, True)
    statuses = farm.services.user_statuses
    restored = await statuses.restore(MANAGER, user.id, note=None, clean=False)
    assert restored.state is UserState.DIRTY
    until = await farm.sql.fetchval("SELECT clock_timestamp()")
    await statuses.quarantine(MANAGER, user.id, reason="for a moment", until=until)
    assert (await farm.seen(user.id)).state is UserState.DIRTY
    with pytest.raises(PoolExhaustedError):
        await farm.acquire(pool)


async def test_a_holder_that_says_what_the_password_is_ends_the_rotation(farm: Farm) -> None:
    pool = await farm.pool(1, check_every=60)
    chore = await farm.chore(pool)
    await start(farm, chore)
    await farm.services.lease_credentials.write_back(
        KEEPER, chore.id, chore.users[0].id, password="set by hand", secrets={}
    )
    with pytest.raises(NoRotationError):
        await confirm(farm, chore)
    await farm.release(chore)
    assert (await farm.acquire(pool)).users[0].password == "set by hand"


async def test_a_manager_that_sets_a_password_ends_the_rotation(farm: Farm) -> None:
    pool = await farm.pool(1, check_every=60, lock_delay=0)
    chore = await farm.chore(pool)
    await start(farm, chore)
    await die(farm, chore)
    await farm.services.users.update(MANAGER, chore.users[0].id, UserChanges(password="set by hand"))
    again = await farm.chore(pool)
    assert (again.users[0].password, again.users[0].pending_password) == ("set by hand", None)


async def test_under_a_test_too_no_other_test_gets_the_pending_password(farm: Farm) -> None:
    pool = await farm.pool(1)
    lease = await farm.acquire(pool)
    credentials = farm.services.lease_credentials
    pending = await credentials.start_rotation(RUNNER, lease.id, lease.users[0].id, password=None)
    await farm.release(lease)
    with pytest.raises(PoolExhaustedError):
        await farm.acquire(pool)
    assert (await farm.chore(pool)).users[0].pending_password == pending


async def test_rotation_over_http(api: httpx.AsyncClient) -> None:
    await create_user(api, await create_project(api, cleaning="required"))
    test = (await api.post("/leases", json=LEASE)).json()
    await api.post(f"/leases/{test['id']}/release")
    chore = (await api.post("/leases", json={**LEASE, "purpose": "chore"})).json()
    (user,) = chore["users"]
    assert (user["due"], "pending_password" in user) == (["clean"], False)
    path = f"/leases/{chore['id']}/users/{user['id']}/rotation"
    assert_problem(await api.post(f"{path}/confirm"), 409, "no-rotation")
    assert (await api.post(path, json={"password": "a new one"})).json() == {"pending_password": "a new one"}
    assert_problem(await api.post(path, json={"password": "another"}), 409, "rotation-pending")
    assert (await api.get(f"/leases/{chore['id']}")).json()["users"][0]["pending_password"] == "a new one"
    seen = (await api.get(f"/users/{user['id']}")).json()
    assert (seen["is_rotating"], "a new one" in str(seen)) == (True, False)
    assert (await api.post(f"{path}/confirm")).json()["password"] == "a new one"
    assert_problem(await api.post(path, json={"password": ""}), 422, "invalid-request")
