"""What the checker reads of a real farm."""

from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from botfarm.domain.access import EVERYTHING, Principal, Role
from botfarm.domain.leases import Outcome, Verdict
from chaos.checker import Kept, check, read_kept
from chaos.checker.found_passwords import Passwords
from chaos.checker.left import KEPT, load_kept, write_kept
from chaos.history import CANARY, History
from support.farm import MANAGER, RUNNER, Farm
from support.rollups import forge_lease, hours_ago, roll_up
from support.tickets import forge_replica, forge_ticket


async def test_a_farm_that_was_used_and_rests_is_clean(farm: Farm, database_url: str) -> None:
    pool = await farm.pool(3, lock_delay=0)
    released = await farm.acquire(pool, count=2, idempotency_key="k", fingerprint=b"f")
    await farm.release(released, Outcome.DIRTY)
    expired = await farm.acquire(pool)
    await farm.expire(expired.id, rested=True)
    kept = await read_kept(database_url)
    assert check(History(), kept) == []
    lease = kept.leases[str(released.id)]
    assert (lease.fence, lease.principal, lease.key) == (released.fence, RUNNER.name, "k")
    assert (lease.ended_by, lease.outcome) == ("released", "dirty")
    assert set(lease.users) == {str(user.id) for user in released.users}
    assert lease.pool == (str(pool.project_id), "stage", "regular")
    assert kept.leases[str(expired.id)].ended_at is None
    assert len(kept.users) == 3
    assert kept.audited["create_user", lease.users[0]] == 1


async def test_what_was_kept_is_read_again_from_its_file(
    farm: Farm, database_url: str, tmp_path: Path
) -> None:
    pool = await farm.pool(2, lock_delay=0)
    lease = await farm.acquire(pool, idempotency_key="k", fingerprint=b"f")
    await farm.release(lease, Outcome.DIRTY)
    await roll_up(farm)
    await farm.acquire(pool)
    await forge_ticket(farm, pool, await forge_replica(farm))
    await farm.sql.execute("UPDATE tickets SET idempotency_key = 'k2', fingerprint = 'f'")
    kept = await read_kept(database_url)
    write_kept(kept, tmp_path)
    again = load_kept(tmp_path)
    assert again is not None
    assert (again.now, again.leases, again.caps, again.audited) == (
        kept.now,
        kept.leases,
        kept.caps,
        kept.audited,
    )
    assert again.users.keys() == kept.users.keys()
    assert again.tickets == [dict(ticket) for ticket in kept.tickets]
    assert [str(each) for each in check(History(), again)] == [str(each) for each in check(History(), kept)]
    written = (tmp_path / KEPT).read_text()
    for user in kept.users.values():
        assert user["password"] not in written


async def test_a_lease_that_is_live_is_found(farm: Farm, database_url: str) -> None:
    lease = await farm.acquire(await farm.pool(1))
    told = [str(violation) for violation in check(History(), await read_kept(database_url))]
    assert any(f"lease {lease.id} of runner-1 is live" in each for each in told)


@pytest.mark.parametrize("password", [f"x-{CANARY}-1", "abcdefghijk-ABCDEFGH-234"])
async def test_a_password_in_a_table_is_found(farm: Farm, database_url: str, password: str) -> None:
    pool = await farm.pool(1)
    await farm.acquire(pool, MANAGER, metadata={"token": f"it is {password}."})
    kept: Kept = await read_kept(database_url, Passwords(frozenset({"abcdefghijk-ABCDEFGH-234"})))
    assert [place.partition(":")[0] for place in kept.passwords_in] == ["leases"]


async def test_rollups_of_a_real_farm_are_what_its_leases_say(farm: Farm, database_url: str) -> None:
    pool = await farm.pool(3)
    hour = await hours_ago(farm, 3)
    users = [uuid4(), uuid4()]
    fence = await forge_lease(farm, pool, hour, hour + timedelta(minutes=90), users=users)
    await farm.sql.execute(
        "UPDATE lease_users SET outcome = 'broken', reason = 'captcha' WHERE (fence, user_id) = ($1, $2)",
        fence,
        users[0],
    )
    await forge_lease(farm, pool, hour, hour + timedelta(minutes=1), ended_by="expired", waited=5)
    await forge_lease(farm, pool, hour, hour + timedelta(minutes=2), ended_by="forced")
    await forge_lease(farm, pool, hour, hour + timedelta(minutes=3), outcome=None)
    await forge_lease(farm, pool, hour, hour + timedelta(minutes=4), purpose="chore")
    await roll_up(farm)
    kept = await read_kept(database_url)
    assert check(History(), kept) == []
    assert len(kept.rollups) >= 2
    await farm.sql.execute("UPDATE rollups SET busy_seconds = busy_seconds + 1 WHERE hour = $1", hour)
    (violation,) = check(History(), await read_kept(database_url))
    assert violation.rule == "rollups true"
    assert str(hour) in str(violation)


async def test_a_token_and_a_trust_rule_that_hold_too_much_are_found(farm: Farm, database_url: str) -> None:
    pool = await farm.pool(4)
    made = await farm.services.tokens.create(
        MANAGER, name="ci", role=Role.RUNNER, projects=None, envs=None, max_leases=1, expires_in=None
    )
    await farm.sql.execute(
        """INSERT INTO trust_rules (id, name, issuer, claims, role, max_leases_of_all, token_ttl, once, created_by)
           VALUES (gen_random_uuid(), 'web', 'https://ci.test', '{}', 'runner', 1, 60, false, 'a test')"""
    )
    token = f"token:ci:{made.token.id}"
    names = [token, token, "ci:web:run-1", "ci:web:run-2"]
    # These principals have no quota of their own, so the farm grants them more than their caps.
    leases = [(name, await farm.acquire(pool, Principal(name, Role.RUNNER, EVERYTHING))) for name in names]
    for name, lease in leases:
        await farm.services.leases.release(Principal(name, Role.RUNNER, EVERYTHING), lease.id, Verdict())
    told = [str(violation) for violation in check(History(), await read_kept(database_url))]
    assert [each.split(" held")[0] for each in told] == [f"caps kept: {token}", "caps kept: ci:web:run-2"]
