"""The key ring and the stored values: keys that are missing, and re-encryption while the farm is in use."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

import httpx
import pytest

from botfarm.crypto.key_ring import KeyRing, generate_key
from botfarm.db.leasing import advisory_locks
from botfarm.db.upkeep import key_queries
from botfarm.db.upkeep.key_queries import StoredUser
from botfarm.domain.credentials import SealedCredentials
from botfarm.domain.pools import Pool
from botfarm.domain.projects import DEFAULT_DOMAINS, DEFAULT_ENVS
from botfarm.domain.users import User, UserChanges
from botfarm.runtime import readiness
from botfarm.services.upkeep import key_usage, reencryption
from botfarm.services.upkeep.key_usage import KeyState, KeyUsage
from botfarm.services.upkeep.reencryption import Reencrypted
from support.app import api_client
from support.farm import MANAGER, PASSWORD, RUNNER, Farm, open_farm, test_settings
from support.http import assert_problem
from support.proxy import proxy_to

K1, K2, K3 = (generate_key(each) for each in ("k1", "k2", "k3"))
SEED = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


@pytest.fixture
async def old(database_url: str) -> AsyncIterator[Farm]:
    """A farm whose ring is k1."""
    async with open_farm(database_url, encryption_keys=K1) as farm:
        yield farm


@asynccontextmanager
async def ring(database_url: str, *entries: str) -> AsyncIterator[Farm]:
    async with open_farm(database_url, encryption_keys=",".join(entries)) as farm:
        yield farm


@pytest.fixture
async def new(database_url: str) -> AsyncIterator[Farm]:
    """The same farm with k2 before k1."""
    async with ring(database_url, K2, K1) as farm:
        yield farm


async def full_user(farm: Farm, pool: Pool) -> User:
    """With a value in each of the three columns."""
    return await farm.services.users.create(
        MANAGER,
        login="full@shop.test",
        password=PASSWORD,
        pool=pool,
        labels={},
        secrets={"pin": 7},
        totp_seed=SEED,
    )


async def reencrypt(farm: Farm) -> Reencrypted:
    return await farm.services.reencryption.run(lambda _: None)


async def states(farm: Farm) -> dict[str, tuple[KeyState, int]]:
    return {use.key_id: (use.state, use.values) for use in await farm.services.key_usage.uses()}


async def stored(farm: Farm, user: User) -> StoredUser:
    async with farm.database.autocommit() as session:
        (found,) = await key_queries.users_by_id(session, [user.id])
    return found


async def password_of(farm: Farm, user: User) -> str:
    value = (await stored(farm, user)).sealed.password
    return KeyRing.parse(f"{K1},{K2}").decrypt(value, row_id=user.id, field="password")


async def blocked(farm: Farm, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Starts the work and returns once it waits for a lock."""
    task = asyncio.create_task(work)
    async with asyncio.timeout(60):
        while not await farm.sql.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            assert not task.done(), "it was to wait for a lock, and did not"
            await asyncio.sleep(0.005)
    return task


class TestStatus:
    async def test_values_of_all_three_columns_are_counted_by_their_keys(self, old: Farm, new: Farm) -> None:
        pool = await old.pool(2)
        await full_user(old, pool)
        await new.user(pool)
        assert await states(new) == {"k2": (KeyState.ENCRYPTS, 1), "k1": (KeyState.DECRYPTS, 5)}
        async with new.database.autocommit() as session:
            assert await key_queries.encrypted_values(session) == {"k1": 5, "k2": 1}

    async def test_a_key_that_the_ring_lacks_is_named_with_the_way_out(
        self, old: Farm, database_url: str
    ) -> None:
        await old.pool(1)
        async with ring(database_url, K2) as farm:
            assert await states(farm) == {"k2": (KeyState.ENCRYPTS, 0), "k1": (KeyState.MISSING, 1)}
            reason = await farm.services.key_usage.why_unusable()
        assert reason
        assert "BOTFARM_ENCRYPTION_KEYS lacks the key k1 (stored values under it: 1): put it back" in reason

    async def test_another_key_under_the_same_id_is_not_the_key(self, old: Farm, database_url: str) -> None:
        await old.pool(2)
        async with ring(database_url, generate_key("k1")) as farm:
            assert await states(farm) == {"k1": (KeyState.WRONG, 2)}
            reason = await farm.services.key_usage.why_unusable()
        assert reason
        assert "does not decrypt what is under k1 (stored values: 2): put back the one that does" in reason

    async def test_a_single_value_that_was_tampered_with_does_not_condemn_the_key(self, old: Farm) -> None:
        await old.pool(key_usage.SAMPLES - 1)
        await old.sql.execute("UPDATE users SET secrets = (SELECT password FROM users LIMIT 1)")
        assert await old.services.key_usage.why_unusable() is None

    async def test_a_wrong_key_that_is_not_the_first_keeps_no_server_from_starting(
        self, old: Farm, database_url: str
    ) -> None:
        """A server must start, so that users whose key is lost can be given new credentials."""
        pool = await old.pool(0)
        user = await full_user(old, pool)
        async with ring(database_url, K2, generate_key("k1")) as farm:
            assert await states(farm) == {"k2": (KeyState.ENCRYPTS, 0), "k1": (KeyState.WRONG, 3)}
            assert await farm.services.key_usage.why_unusable() is None
            assert (await reencrypt(farm)).unreadable == {user.id: ["password", "secrets", "totp_seed"]}
            for changes in (
                UserChanges(password="a new one", removes_secrets=True, totp_seed=SEED),
                UserChanges(secrets={"pin": 8}),
            ):
                await farm.services.users.update(MANAGER, user.id, changes)
            assert await states(farm) == {"k2": (KeyState.ENCRYPTS, 3), "k1": (KeyState.DECRYPTS, 0)}
            (leased,) = (await farm.acquire(pool)).users
            assert (leased.password, leased.secrets) == ("a new one", {"pin": 8})

    async def test_an_empty_farm_takes_any_ring(self, old: Farm) -> None:
        assert await old.services.key_usage.why_unusable() is None

    async def test_a_value_that_no_farm_encrypted_counts_for_no_key(self, old: Farm) -> None:
        await old.pool(1)
        await old.sql.execute("UPDATE users SET password = 'hunter2', secrets = 'v1.a b.c'")
        assert await states(old) == {"k1": (KeyState.ENCRYPTS, 0)}
        async with old.database.autocommit() as session:
            assert await key_queries.encrypted_values(session) == {"": 2}


class TestReencrypt:
    @pytest.mark.usefixtures("code_clock")
    async def test_everything_is_under_the_first_key_then_and_reads_as_before(
        self, old: Farm, new: Farm, database_url: str
    ) -> None:
        pool = await old.pool(1)
        await old.pool(2)
        await full_user(old, pool)
        done = await reencrypt(new)
        assert (done.key_id, done.to_do, done.users, done.values) == ("k2", 6, 4, 6)
        assert (done.left, done.missing, done.unreadable) == ({}, {}, {})
        assert done.unused == ("k1",)
        async with ring(database_url, K2) as farm:
            lease = await farm.acquire(pool, count=2)
        assert {user.password for user in lease.users} == {PASSWORD}
        (full,) = [user for user in lease.users if user.login == "full@shop.test"]
        assert full.secrets == {"pin": 7}
        assert full.totp

    async def test_the_audit_records_a_reencryption_with_its_counts(self, old: Farm, new: Farm) -> None:
        await old.pool(2)
        await reencrypt(new)
        row = await new.sql.fetchrow("SELECT * FROM audit WHERE action = 'reencrypt'")
        assert (row["principal"], row["target"], row["target_id"]) == ("command-line", "key", "k2")
        assert '"values": 2' in row["details"]
        assert "v1." not in row["details"]

    async def test_values_under_the_first_key_are_not_rewritten(self, old: Farm, new: Farm) -> None:
        await old.pool(3)
        await reencrypt(new)
        rows = "SELECT id, ctid::text, xmin::text, password FROM users ORDER BY id"
        before = await new.sql.fetch(rows)
        assert (await reencrypt(new)).values == 0
        assert await new.sql.fetch(rows) == before

    async def test_values_of_a_missing_key_are_counted_and_all_others_reencrypted(
        self, old: Farm, database_url: str
    ) -> None:
        pool = await old.pool(2)
        user = await full_user(old, pool)
        async with ring(database_url, K3, K2, K1) as farm:
            await farm.services.users.update(MANAGER, user.id, UserChanges(password="typed anew"))
            await farm.user(pool)
        async with ring(database_url, K2, K1) as farm:
            done = await reencrypt(farm)
            assert (done.values, done.missing, done.left) == (4, {"k3": 2}, {})
            assert await states(farm) == {
                "k2": (KeyState.ENCRYPTS, 4),
                "k1": (KeyState.DECRYPTS, 0),
                "k3": (KeyState.MISSING, 2),
            }

    async def test_a_value_that_does_not_decrypt_is_named_and_stays(self, old: Farm, new: Farm) -> None:
        await old.pool(2)
        await old.sql.execute("UPDATE users SET secrets = password WHERE id = (SELECT id FROM users LIMIT 1)")
        done = await reencrypt(new)
        assert (done.users, done.values, done.left) == (2, 2, {"k1": 1})
        assert list(done.unreadable.values()) == [["secrets"]]

    async def test_a_user_that_is_changed_meanwhile_is_not_overwritten(self, old: Farm, new: Farm) -> None:
        pool = await old.pool(0)
        changed, moved, deleted, same = [await old.user(pool) for _ in range(4)]
        elsewhere = replace(pool, env="prod")
        async with new.database.transaction() as session:
            await advisory_locks.lock_pool(session, pool)
            running = await blocked(new, reencrypt(new))
            await old.services.users.update(MANAGER, changed.id, UserChanges(password="typed meanwhile"))
            await old.services.users.update(MANAGER, moved.id, UserChanges(env=elsewhere.env))
            await old.services.users.delete(MANAGER, deleted.id)
        done = await running
        assert (done.users, done.values, done.left) == (3, 3, {})
        assert await password_of(new, changed) == "typed meanwhile"
        for user in (moved, same):
            assert await password_of(new, user) == PASSWORD

    async def test_old_values_are_compared_in_all_three_columns(self, old: Farm) -> None:
        pool = await old.pool(0)
        user = await full_user(old, pool)
        read = await stored(old, user)
        for column in ("password", "secrets", "totp_seed"):
            stale = replace(read, sealed=replace(read.sealed, **{column: "v1.k1.stale"}))
            async with old.database.transaction() as session:
                anew = SealedCredentials("v1.k2.a", "v1.k2.b", "v1.k2.c")
                assert await key_queries.replace_credentials(session, pool, [(stale, anew)]) == set()
        assert await stored(old, user) == read

    async def test_reencryption_skips_locked_users_and_reports_them(
        self, old: Farm, new: Farm, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reencryption, "PAUSE", 0)
        pool = await old.pool(3)
        held = (await old.acquire(pool)).users[0]
        async with new.sql.transaction():
            await new.sql.execute("SELECT 1 FROM users WHERE id = $1 FOR UPDATE", held.id)
            assert (await reencrypt(new)).left == {"k1": 1}
        assert (await reencrypt(new)).values == 1

    async def test_a_batch_is_of_one_pool_and_every_pool_is_done(
        self, old: Farm, new: Farm, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reencryption, "PAGE", 4)
        monkeypatch.setattr(reencryption, "BATCH", 2)
        pool = await old.pool(5)
        for env in DEFAULT_ENVS:
            for domain in DEFAULT_DOMAINS:
                await old.user(replace(pool, env=env, domain=domain))
        await old.pool(3)
        assert (await reencrypt(new)).values == 14
        assert await states(new) == {"k2": (KeyState.ENCRYPTS, 14), "k1": (KeyState.DECRYPTS, 0)}

    async def test_two_at_once_do_everything_once(self, old: Farm, new: Farm) -> None:
        await old.pool(30)
        first, second = await asyncio.gather(reencrypt(new), reencrypt(new))
        assert first.values + second.values == 30
        assert await states(new) == {"k2": (KeyState.ENCRYPTS, 30), "k1": (KeyState.DECRYPTS, 0)}

    async def test_updates_of_a_reencryption_are_hot(self, old: Farm, database_url: str) -> None:
        pool = await old.pool(0)
        await fill(old, pool, 2_000)
        async with ring(database_url, K2, K1) as farm:
            await reencrypt(farm)
        async with asyncio.timeout(60):
            while True:
                updates, hot = await old.sql.fetchrow(
                    "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'users'"
                )
                if updates >= 2_000:
                    break
                await asyncio.sleep(0.05)
        assert hot / updates >= 0.95, (updates, hot)


class TestAcquireMeanwhile:
    async def test_an_acquire_that_finds_the_last_user_locked_by_a_batch_gets_it_afterwards(
        self, old: Farm, new: Farm, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pool = await old.pool(1)
        holds, may_commit = asyncio.Event(), asyncio.Event()
        replace_credentials = key_queries.replace_credentials

        async def replace_and_hold(*arguments: Any) -> Any:
            replaced = await replace_credentials(*arguments)
            holds.set()
            await may_commit.wait()
            return replaced

        monkeypatch.setattr(key_queries, "replace_credentials", replace_and_hold)
        running = asyncio.create_task(reencrypt(new))
        await asyncio.wait_for(holds.wait(), 10)
        acquiring = await blocked(new, new.acquire(pool, wait_seconds=0))
        may_commit.set()
        (user,) = (await acquiring).users
        assert user.password == PASSWORD
        assert (await running).values == 1
        assert user.sealed.password.startswith("v1.k2.")

    @pytest.mark.parametrize("users", [1, 2, 3])
    async def test_under_load_no_pool_is_ever_exhausted(
        self, new: Farm, database_url: str, users: int
    ) -> None:
        pool = await new.pool(users)

        async def runner() -> None:
            for _ in range(150):
                lease = await new.acquire(pool, wait_seconds=0)
                assert lease.users[0].password == PASSWORD
                await new.services.leases.release(RUNNER, lease.id)

        # One runner fewer than users, where possible, because runners may also take the last user from each
        # other.
        running = asyncio.gather(*(runner() for _ in range(max(1, users - 1))))
        values = 0
        async with ring(database_url, K1, K2) as back:
            while not running.done():
                for farm in (back, new):
                    values += (await reencrypt(farm)).values
        await running
        assert values > 10 * users


class TestServer:
    """Readiness when the database did not answer before the server started."""

    async def test_a_server_is_not_ready_until_its_ring_is_right(
        self, old: Farm, new: Farm, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(readiness, "INTERVAL", 0.05)
        monkeypatch.setattr(readiness, "KEYS_INTERVAL", 0.2)
        await old.pool(1)
        async with proxy_to(database_url) as proxy:
            await proxy.cut()
            async with api_client(test_settings(proxy.url, encryption_keys=K2)) as api:
                await until_ready(api, 503, "does not answer")
                await proxy.mend()
                await until_ready(api, 503, "lacks the key k1 (stored values under it: 1)")
                await reencrypt(new)
                await until_ready(api, 200, "ok")

    async def test_a_replica_without_the_new_key_becomes_unready_when_it_needs_the_key(
        self,
        old: Farm,
        new: Farm,
        database_url: str,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(readiness, "INTERVAL", 0.05)
        monkeypatch.setattr(readiness, "KEYS_INTERVAL", 0.2)
        pool = await old.pool(0)
        async with api_client(test_settings(database_url, encryption_keys=K1)) as api:
            await until_ready(api, 200, "ok")
            user = await full_user(new, pool)
            caplog.clear()
            answer = await api.post(f"/users/{user.id}/acquire_lock")
            assert_problem(answer, 503, "database-unavailable")
            assert "lacks the key" in answer.json()["detail"]
            assert "k2" in caplog.text
            assert not [entry for entry in (K1, K2) if entry.partition(":")[2] in caplog.text]
            await until_ready(api, 503, "lacks the key k2 (stored values under it: 3)")
            last = (await api.get(f"/users/{user.id}")).json()["last_lease"]
            assert (last["ended_by"], last["outcome"]) == ("released", None), "the user is not what is broken"
            lease = await new.acquire(pool, wait_seconds=0)
            assert lease.users[0].password == PASSWORD, "another replica has the key, and the user at once"
            await new.services.leases.release(RUNNER, lease.id)
            retried = {"headers": {"Idempotency-Key": "retried"}}
            path = f"/users/{user.id}/acquire_lock"
            assert_problem(await api.post(path, **retried), 503, "database-unavailable")
            async with api_client(test_settings(database_url, encryption_keys=f"{K2},{K1}")) as whole:
                granted = (await whole.post(path, **retried)).json()
                assert granted["users"][0]["password"] == PASSWORD
                await whole.post(f"/leases/{granted['id']}/release")
            async with ring(database_url, K1, K2) as back:
                await reencrypt(back)
            await until_ready(api, 200, "ok")
            assert (await api.post(f"/users/{user.id}/acquire_lock")).json()["users"][0]["password"]

    async def test_every_reader_of_a_value_under_a_missing_key_answers_503(
        self, old: Farm, new: Farm, database_url: str
    ) -> None:
        user = await full_user(new, await old.pool(0))
        requests = (
            ("POST", "/leases/{lease}/renew", None),
            ("GET", "/leases/{lease}", None),
            ("GET", "/leases/{lease}/users/{user}/totp", None),
            ("PATCH", "/leases/{lease}/users/{user}", {"secrets": {"pin": 8}}),
            ("PATCH", "/users/{user}", {"secrets": {"pin": 8}}),
        )
        async with (
            api_client(test_settings(database_url, encryption_keys=f"{K2},{K1}")) as whole,
            api_client(test_settings(database_url, encryption_keys=K1)) as api,
        ):
            lease = (await whole.post(f"/users/{user.id}/acquire_lock")).json()["id"]
            for method, path, body in requests:
                answer = await api.request(method, path.format(lease=lease, user=user.id), json=body)
                assert_problem(answer, 503, "database-unavailable")

    async def test_a_damaged_value_makes_no_replica_unready(
        self, old: Farm, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The value names an unknown key, but no key can have encrypted it."""
        monkeypatch.setattr(readiness, "INTERVAL", 0.05)
        pool = await old.pool(1)
        async with api_client(test_settings(database_url, encryption_keys=K1)) as api:
            await until_ready(api, 200, "ok")
            await old.sql.execute("UPDATE users SET password = 'v1.k7.AAAA'")
            request = {"project_id": str(pool.project_id), "env": pool.env}
            assert_problem(await api.post("/leases", json=request), 500, "internal")
            looks: list[Any] = []
            monkeypatch.setattr(readiness.Readiness, "look", _counting(readiness.Readiness.look, looks))
            async with asyncio.timeout(60):
                while len(looks) < 3:
                    await asyncio.sleep(0.02)
            await until_ready(api, 200, "ok")

    async def test_the_users_are_looked_through_once(
        self, old: Farm, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(readiness, "KEYS_INTERVAL", 0)
        await old.pool(1)
        scans: list[KeyUsage] = []
        monkeypatch.setattr(KeyUsage, "why_unusable", _counting(KeyUsage.why_unusable, scans))
        async with open_farm(database_url, encryption_keys=K1) as farm:
            watch = asyncio.create_task(farm.services.readiness.watch(farm.services.key_usage))
            async with asyncio.timeout(60):
                while farm.services.readiness.why_unready:
                    await asyncio.sleep(0.01)
            for _ in range(3):
                await farm.services.readiness.look()
            watch.cancel()
        assert len(scans) == 1


def _counting(method: Any, calls: list[Any]) -> Any:
    async def counted(service: Any) -> Any:
        calls.append(service)
        return await method(service)

    return counted


async def until_ready(api: httpx.AsyncClient, status: int, words: str) -> None:
    async with asyncio.timeout(60):
        while True:
            answer = await api.get("http://farm.test/readyz")
            if answer.status_code == status and words in answer.text:
                return
            await asyncio.sleep(0.02)


async def fill(farm: Farm, pool: Pool, users: int) -> None:
    """Many users at once, each with a password under the first key of k1."""
    key_ring = KeyRing.parse(K1)
    ids = [uuid4() for _ in range(users)]
    await farm.sql.executemany(
        "INSERT INTO users (id, login, password, project_id, env, domain) VALUES ($1, $2, $3, $4, $5, $6)",
        [
            (
                each,
                f"{each}@shop.test",
                key_ring.encrypt(PASSWORD, row_id=each, field="password"),
                pool.project_id,
                pool.env,
                pool.domain,
            )
            for each in ids
        ],
    )
