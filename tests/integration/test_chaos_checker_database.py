"""What the checker reads of a real farm."""

import pytest

from botfarm.domain.leases import Outcome
from chaos.checker import Kept, check, read_kept
from chaos.checker.found_passwords import Passwords
from chaos.history import CANARY, History
from support.farm import MANAGER, RUNNER, Farm


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
    assert ("create_user", lease.users[0]) in kept.audited


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
