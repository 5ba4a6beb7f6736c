"""Locks by user, and idempotency keys."""

import hashlib
import json

import pytest

from botfarm.domain.users import UserState
from botfarm.errors import (
    IdempotencyKeyEndedError,
    IdempotencyKeyReusedError,
    LeaseIdRequiredError,
    LeaseLapsedError,
    NoSuchLeaseError,
    NotTheHolderError,
    UserBusyError,
    UseReleaseLeaseError,
)
from support.farm import OTHER_RUNNER, PASSWORD, RUNNER, Farm


class TestLocks:
    async def test_a_locked_user_is_busy(self, farm: Farm) -> None:
        user = await farm.user(await farm.pool(0))
        lease = (await farm.lock(user.id)).lease
        assert lease.users[0].id == user.id
        with pytest.raises(UserBusyError) as caught:
            await farm.lock(user.id)
        assert caught.value.details["locktime"] == lease.acquired_at
        assert 0 < caught.value.details["expires_in"] <= 915

    async def test_release_lock_frees_the_user_of_acquire_lock_and_a_free_user_stays_free(
        self, farm: Farm
    ) -> None:
        user = await farm.user(await farm.pool(0))
        await farm.lock(user.id)
        for _ in range(2):
            freed = await farm.services.leases.release_lock(RUNNER, user.id, lease_id=None)
            assert (freed.state, freed.locktime) == (UserState.FREE, None)

    async def test_without_its_id_a_lease_of_acquire_lease_is_not_released(self, farm: Farm) -> None:
        lease = await farm.acquire(await farm.pool(1))
        user_id = lease.users[0].id
        with pytest.raises(LeaseIdRequiredError):
            await farm.services.leases.release_lock(RUNNER, user_id, lease_id=None)
        freed = await farm.services.leases.release_lock(RUNNER, user_id, lease_id=lease.id)
        assert freed.state is UserState.FREE

    async def test_another_principal_cannot_release_the_lock(self, farm: Farm) -> None:
        user = await farm.user(await farm.pool(0))
        lease = (await farm.lock(user.id)).lease
        for lease_id in (None, lease.id):
            with pytest.raises(NotTheHolderError):
                await farm.services.leases.release_lock(OTHER_RUNNER, user.id, lease_id=lease_id)

    async def test_a_lease_of_several_users_is_released_as_a_whole(self, farm: Farm) -> None:
        lease = await farm.acquire(await farm.pool(2), count=2)
        for lease_id in (None, lease.id):
            with pytest.raises(UseReleaseLeaseError):
                await farm.services.leases.release_lock(RUNNER, lease.users[0].id, lease_id=lease_id)

    async def test_release_lock_refuses_the_lease_of_another_user(self, farm: Farm) -> None:
        pool = await farm.pool(2)
        first, second = await farm.acquire(pool), await farm.acquire(pool)
        with pytest.raises(NoSuchLeaseError):
            await farm.services.leases.release_lock(RUNNER, first.users[0].id, lease_id=second.id)

    async def test_releasing_a_lapsed_lock_is_refused_as_lapsed(self, farm: Farm) -> None:
        user = await farm.user(await farm.pool(0))
        lease = (await farm.lock(user.id)).lease
        await farm.expire(lease.id)
        with pytest.raises(LeaseLapsedError):
            await farm.services.leases.release_lock(RUNNER, user.id, lease_id=lease.id)


class TestIdempotencyKeys:
    async def test_a_retry_gets_the_same_lease_even_when_no_user_is_free(self, farm: Farm) -> None:
        pool = await farm.pool(1)
        lease = await farm.acquire(pool, idempotency_key="k")
        again = await farm.acquire(pool, idempotency_key="k", wait_seconds=0)
        assert (again.id, again.users[0].password) == (lease.id, PASSWORD)
        assert await farm.sql.fetchval("SELECT count(*) FROM leases") == 1

    async def test_a_retry_takes_no_second_user(self, farm: Farm) -> None:
        pool = await farm.pool(5)
        ids = {(await farm.acquire(pool, idempotency_key="k")).id for _ in range(3)}
        assert len(ids) == 1
        assert await farm.sql.fetchval("SELECT count(*) FROM users WHERE locktime IS NOT NULL") == 1

    async def test_another_request_under_the_key_is_refused(self, farm: Farm) -> None:
        pool = await farm.pool(2)
        lease = await farm.acquire(pool, idempotency_key="k")
        with pytest.raises(IdempotencyKeyReusedError):
            await farm.acquire(pool, idempotency_key="k", ttl_seconds=60)
        with pytest.raises(IdempotencyKeyReusedError):
            await farm.lock(lease.users[0].id, idempotency_key="k")

    async def test_keys_belong_to_their_principal(self, farm: Farm) -> None:
        pool = await farm.pool(2)
        mine = await farm.acquire(pool, idempotency_key="k")
        theirs = await farm.acquire(pool, OTHER_RUNNER, idempotency_key="k")
        assert mine.id != theirs.id

    @pytest.mark.parametrize("how", ["released", "expired"])
    async def test_the_key_of_an_ended_lease_is_used_up(self, farm: Farm, how: str) -> None:
        pool = await farm.pool(1)
        lease = await farm.acquire(pool, idempotency_key="k")
        if how == "released":
            await farm.services.leases.release(RUNNER, lease.id)
        else:
            await farm.expire(lease.id, rested=True)
        with pytest.raises(IdempotencyKeyEndedError):
            await farm.acquire(pool, idempotency_key="k")

    async def test_acquire_lock_replays_too(self, farm: Farm) -> None:
        user = await farm.user(await farm.pool(0))
        grants = [await farm.lock(user.id, idempotency_key="k") for _ in range(2)]
        assert [grant.replayed for grant in grants] == [False, True]
        assert grants[0].lease.id == grants[1].lease.id

    async def test_every_version_computes_the_same_fingerprint(self, farm: Farm) -> None:
        """Else a retry that reaches a replica of the next version would be refused as another request."""
        pool = await farm.pool(0)
        user = await farm.user(pool, team="red")
        wanted = {"labels": {"team": "red"}, "owner": "job 7", "metadata": {"url": "…"}, "ttl_seconds": 60}
        lease = await farm.acquire(pool, idempotency_key="k", **wanted)
        same = {**wanted, "operation": "acquire_lease", "project": str(pool.project_id)}
        assert lease.fingerprint == digest({**same, "env": "stage", "domain": "regular", "count": 1})
        await farm.services.leases.release(RUNNER, lease.id)
        lock = (await farm.lock(user.id, idempotency_key="l")).lease
        terms = {"ttl_seconds": None, "owner": None, "metadata": {}}
        assert lock.fingerprint == digest({**terms, "operation": "acquire_lock", "user_id": str(user.id)})


def digest(fields: dict[str, object]) -> bytes:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).digest()
