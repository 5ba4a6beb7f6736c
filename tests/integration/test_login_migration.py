"""Logins from before normal forms: the migration, and replicas of the previous version beside this one."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from botfarm.db.leasing.advisory_locks import lock_pool
from botfarm.db.postgres.engine import create_engine
from botfarm.db.schema.migration import migrate
from botfarm.db.stock.login_key_queries import PAGE, fill_login_keys
from botfarm.domain.logins import login_key
from botfarm.errors import OperatorError
from support.farm import Farm
from support.postgres import fresh_database
from support.processes import BOTFARM, running

PAIRS = [
    ("jürgen@x.test", "Ju\u0308rgen@X.test"),
    ("a@bücher.test", "A@xn--BCHER-kva.test"),
    ("a@shop.test", "a@\uff33\uff28\uff2f\uff30\u3002test"),
]
PROJECT = "11111111-1111-1111-1111-111111111111"


@pytest.fixture(params=["C", "C.UTF-8"])
def old(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[str]:
    """Revision 0003 with one project, in a locale that folds only ASCII and in one that folds more."""
    with fresh_database(postgres_url, locale=request.param) as url:
        asyncio.run(_make_old(url))
        yield url


async def _make_old(url: str) -> None:
    await migrate(url, revision="0003")
    async with connected(url) as sql:
        await sql.execute(
            """INSERT INTO projects (id, name, default_ttl, max_ttl, max_hold, lock_delay, cooldown)
               VALUES ($1, 'shop', 900, 14400, 43200, 15, 0)""",
            PROJECT,
        )


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def insert_as_before(sql: asyncpg.Connection, *logins: str, env: str = "stage") -> list[str]:
    """Inserts users as the previous version does, and gives their ids."""
    rows = await sql.fetch(
        """INSERT INTO users (id, login, password, project_id, env, domain)
           SELECT gen_random_uuid(), login, 'x', $2, $3, 'regular' FROM unnest($1::text[]) AS login
           ON CONFLICT DO NOTHING RETURNING id""",
        list(logins),
        PROJECT,
        env,
    )
    return [str(row["id"]) for row in rows]


async def lease(sql: asyncpg.Connection, user_id: str) -> None:
    await sql.execute(
        """UPDATE users SET locktime = now(), expires_at = now() + interval '1 hour',
                            lease_id = gen_random_uuid()
           WHERE id = $1""",
        user_id,
    )


async def keys(sql: asyncpg.Connection) -> dict[str, str | None]:
    return {row["login"]: row["login_key"] for row in await sql.fetch("SELECT login, login_key FROM users")}


async def schema(sql: asyncpg.Connection) -> list[tuple[str, ...]]:
    """Everything that a migration could change, and the schema's revision."""
    found = await sql.fetch("""
        SELECT 'column', table_name || '.' || column_name FROM information_schema.columns
            WHERE table_schema = 'public'
        UNION ALL SELECT 'index', indexdef FROM pg_indexes WHERE schemaname = 'public'
        UNION ALL SELECT 'trigger', tgname FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT 'function', proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
        UNION ALL SELECT 'revision', version_num FROM alembic_version ORDER BY 1, 2""")
    return [tuple(row) for row in found]


async def test_users_get_their_normal_forms_by_the_page(old: str) -> None:
    logins = [*(f"User-{n}@Shop.test" for n in range(2 * PAGE + 1)), *(one for one, _ in PAIRS)]
    async with connected(old) as sql:
        await insert_as_before(sql, *logins)
        await migrate(old)
        assert await keys(sql) == {login: login_key(login) for login in logins}


async def test_a_migration_changes_nothing_when_two_users_are_one_account(old: str) -> None:
    async with connected(old) as sql:
        ids = [sorted(await insert_as_before(sql, *pair)) for pair in PAIRS]
        login_of = {str(row["id"]): row["login"] for row in await sql.fetch("SELECT id, login FROM users")}
        await insert_as_before(sql, "jürgen@x.test", "a@shop.test", env="prod")
        await lease(sql, ids[0][0])
        before = await schema(sql), await sql.fetch("SELECT * FROM users ORDER BY id")
        with pytest.raises(OperatorError) as refused:
            await migrate(old)
        said = str(refused.value)
        assert "(3 found)" in said
        for (login, _), pair_ids in zip(PAIRS, ids, strict=True):
            users = ", ".join(f"{user_id} ({login_of[user_id]})" for user_id in pair_ids)
            assert f"{login_key(login)} in stage of shop: {users}" in said
        assert "prod" not in said
        assert before == (await schema(sql), await sql.fetch("SELECT * FROM users ORDER BY id"))
        for _, second in ids:
            await sql.execute("DELETE FROM users WHERE id = $1", second)
        await migrate(old)
        assert None not in (await keys(sql)).values()
        assert await sql.fetchval("SELECT count(*) FROM users WHERE expires_at > now()") == 1


async def test_many_accounts_are_counted_and_the_first_of_them_named(old: str) -> None:
    async with connected(old) as sql:
        await insert_as_before(sql, *(f"{n:03}@{host}.test" for n in range(25) for host in ("ü", "xn--tda")))
        with pytest.raises(
            OperatorError, match=r"\(25 found\): 000@xn--tda.test in .*; and 5 more\. "
        ) as refused:
            await migrate(old)
        assert "\n" not in str(refused.value)


async def test_the_command_ends_with_one_line_that_says_the_way_out(old: str) -> None:
    async with connected(old) as sql:
        ids = await insert_as_before(sql, *PAIRS[0])
    with running(BOTFARM, "migrate", environment={"BOTFARM_DATABASE_URL": old}) as process:
        assert await asyncio.to_thread(process.wait) == 1
    said = process.output.splitlines()[-1]
    assert said.startswith("botfarm: several users are one account")
    assert all(user_id in said for user_id in ids)
    assert "botfarm users delete ID" in said
    assert "Traceback" not in process.output


async def test_two_users_of_one_account_added_during_the_migration_stop_it_until_one_is_gone(
    old: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(old) as sql:
        await insert_as_before(sql, "jürgen@x.test")
        with monkeypatch.context() as patch:  # as if the pair were created just after the check
            patch.setattr("botfarm.db.stock.login_key_queries.accounts_of_several", lambda _connection: {})
            (second,) = await insert_as_before(sql, "ju\u0308rgen@x.test")
            with pytest.raises(OperatorError, match=rf"jürgen@x.test in stage of shop: .*{second}"):
                await migrate(old)
        assert ("revision", "0003") in await schema(sql)
        assert await sql.fetchval("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == 0
        assert await insert_as_before(sql, "somebody@x.test")  # the farm works on
        await sql.execute("DELETE FROM users WHERE id = $1", second)
        await migrate(old)
        assert await keys(sql) == {each: each for each in ("jürgen@x.test", "somebody@x.test")}


async def test_users_that_are_locked_meanwhile_are_filled_in_when_they_are_free(
    farm: Farm, database_url: str
) -> None:
    pool = await farm.pool(2)
    logins = await keys(farm.sql)
    await farm.sql.execute("UPDATE users SET login_key = NULL")
    engine = create_engine(database_url, application_name="test", patience=None)
    async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as outside:
        async with connected(database_url) as holder, holder.transaction():
            held = await holder.fetchval("SELECT login FROM users LIMIT 1 FOR UPDATE")
            filling = asyncio.create_task(outside.run_sync(fill_login_keys))
            async with asyncio.timeout(60):
                while list((await keys(farm.sql)).values()).count(None) > 1:
                    await asyncio.sleep(0.02)
            assert (await keys(farm.sql))[held] is None
            assert await farm.acquire(pool)  # the user that is not locked
        await filling
    assert await keys(farm.sql) == logins
    await engine.dispose()


async def test_normal_forms_are_filled_in_under_the_lock_of_the_pool(farm: Farm, database_url: str) -> None:
    """An acquire that finds users locked by this waits for its end and tries again."""
    pool = await farm.pool(2)
    await farm.sql.execute("UPDATE users SET login_key = NULL")
    engine = create_engine(database_url, application_name="test", patience=None)
    async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as outside:
        async with farm.database.transaction() as session:
            await lock_pool(session, pool)
            filling = asyncio.create_task(outside.run_sync(fill_login_keys))
            waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            async with asyncio.timeout(60):
                while not await farm.sql.fetchval(waits):
                    await asyncio.sleep(0.02)
            locked_by_nobody = "SELECT FROM users FOR UPDATE SKIP LOCKED"
            assert len(await farm.sql.fetch(locked_by_nobody)) == 2
        await filling
    assert None not in (await keys(farm.sql)).values()
    await engine.dispose()


async def test_a_login_written_by_the_previous_version_gets_its_normal_form(farm: Farm) -> None:
    pool = await farm.pool(0)
    insert = """INSERT INTO users (id, login, password, project_id, env, domain)
                VALUES (gen_random_uuid(), $1, 'x', $2, $3, $4) RETURNING id"""
    place = pool.project_id, pool.env, pool.domain
    plain = await farm.sql.fetchval(insert, "Anna@X.test", *place)
    named = await farm.sql.fetchval(insert, "Jürgen@X.test", *place)
    assert await keys(farm.sql) == {"Anna@X.test": "anna@x.test", "Jürgen@X.test": None}
    stop = asyncio.Event()
    assert await farm.services.maintenance.fill_login_keys(stop) == (1, [])
    assert await keys(farm.sql) == {"Anna@X.test": "anna@x.test", "Jürgen@X.test": "jürgen@x.test"}
    rename = "UPDATE users SET login = $2 WHERE id = $1"
    await farm.sql.execute(rename, plain, "Berta@x.test")
    await farm.sql.execute(rename, named, "JÖRG@x.test")
    assert await keys(farm.sql) == {"Berta@x.test": "berta@x.test", "JÖRG@x.test": None}
    twin = await farm.sql.fetchval(insert, "jo\u0308rg@x.test", *place)
    filled, refused = await farm.services.maintenance.fill_login_keys(stop)
    assert (filled, len(refused)) == (1, 1)
    assert refused[0] in {named, twin}
    await farm.sql.execute("DELETE FROM users WHERE id = $1", refused[0])
    assert await farm.services.maintenance.fill_login_keys(stop) == (0, [])


async def test_leases_cost_no_lock_of_a_user_more(farm: Farm) -> None:
    """A BEFORE UPDATE trigger on users would make PostgreSQL lock each user of a lease's update once more."""
    kinds = await farm.sql.fetchval(
        "SELECT array_agg(tgtype) FROM pg_trigger WHERE tgrelid = 'users'::regclass AND NOT tgisinternal"
    )
    row, before, update = 1, 2, 16
    assert kinds
    assert not [kind for kind in kinds if kind & (row | before | update) == row | before | update]
