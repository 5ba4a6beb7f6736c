"""The acquire statement in PostgreSQL: how many rows it takes, by which plan, and with HOT updates."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.dialects.postgresql import asyncpg as dialect

from botfarm.db.leasing import pool_grant_queries, pool_grant_statements
from botfarm.db.leasing.pool_grant_queries import hand_after
from botfarm.domain.leases import MAX_USERS, Lease, LeaseRequest, LeaseTerms, Purpose
from botfarm.domain.pools import Pool
from botfarm.runtime.services import MAX_BATCH
from support.farm import RUNNER, Farm, open_farm

TERMS = LeaseTerms(ttl_seconds=60)
PLANS = ("force_custom_plan", "force_generic_plan")
HANDS = (UUID(int=1), hand_after(UUID(int=2**127)), UUID(int=2**128 - 1))


async def fill(farm: Farm, users: int) -> Pool:
    """A pool of many users. Their passwords are never read."""
    pool = await farm.pool(0)
    await farm.sql.execute(
        """INSERT INTO users (id, login, password, project_id, env, domain)
           SELECT gen_random_uuid(), 'user-' || n || '@shop.test', 'unread', $1, $2, $3
           FROM generate_series(1, $4) n""",
        pool.project_id,
        pool.env,
        pool.domain,
        users,
    )
    return pool


async def acquire(
    session: Any, pool: Pool, count: int, *, purpose: Purpose = Purpose.TEST, hand: UUID | None = None
) -> Lease | None:
    request = LeaseRequest(RUNNER, pool, count=count, terms=TERMS, purpose=purpose)
    (lease,) = await pool_grant_queries.grant_from_pool(
        session, [request], tickets=None, hand=hand or hand_after(uuid4()), replica=uuid4(), latest=None
    )
    return lease


@pytest.mark.parametrize("analyzed", [True, False])
@pytest.mark.parametrize("count", [1, 3, 20, MAX_USERS])
async def test_it_takes_exactly_as_many_users_as_asked_for_whatever_the_plan(
    farm: Farm, count: int, analyzed: bool
) -> None:
    """Also where all of them come after the hand."""
    pool = await fill(farm, 100)
    if analyzed:
        await farm.sql.execute("ANALYZE users")
    async with farm.database.transaction() as session:
        for join in ("hashjoin", "mergejoin", "material"):
            await session.execute(text(f"SET LOCAL enable_{join} = off"))
        lease = await acquire(session, pool, count, hand=UUID(int=0))
    assert lease is not None
    assert len(lease.users) == count
    assert await farm.sql.fetchval("SELECT count(*) FROM users WHERE locktime IS NOT NULL") == count


@pytest.mark.parametrize("plan", PLANS)
async def test_it_locks_only_the_users_that_it_takes(farm: Farm, plan: str) -> None:
    """A user that is locked in vain is free for nobody until the commit."""
    pool = await fill(farm, 100)
    async with farm.database.transaction() as session:
        await session.execute(text(f"SET LOCAL plan_cache_mode = {plan}"))
        assert await acquire(session, pool, 3)
        free = await farm.sql.fetch("SELECT id FROM users FOR UPDATE SKIP LOCKED")
    assert len(free) == 97


@pytest.mark.parametrize("analyzed", [True, False])
@pytest.mark.parametrize(("users", "pools"), [(1_000, 1), (1_000, 20), (20_000, 1)])
async def test_it_walks_the_pool_index_without_a_sort(
    farm: Farm, users: int, pools: int, analyzed: bool
) -> None:
    for _ in range(pools):
        pool = await fill(farm, users)
    if analyzed:
        await farm.sql.execute("ANALYZE users")
    for plan, hand in product(PLANS, HANDS):
        nodes = list(_nodes(await explain(farm, pool, hand, plan_cache_mode=plan)))
        scans = [
            node
            for node in nodes
            if node.get("Relation Name") == "users" and node["Node Type"] != "ModifyTable"
        ]
        assert [node.get("Index Name") for node in scans].count("ix_users_pool") == 2, (plan, hand, scans)
        assert not [node for node in scans if node["Node Type"] == "Seq Scan"], (
            "the users it takes are found by their id"
        )
        below_the_locks = [
            under for node in nodes if node["Node Type"] == "LockRows" for under in _nodes(node)
        ]
        assert below_the_locks
        assert not [node for node in below_the_locks if "Sort" in node["Node Type"]], (plan, hand)


def test_no_batch_wants_more_users_than_the_walk_gives() -> None:
    assert MAX_BATCH <= MAX_USERS


@pytest.mark.parametrize("analyzed", [True, False])
@pytest.mark.parametrize("users", [100, 20_000])
@pytest.mark.parametrize("purpose", [Purpose.TEST, Purpose.CHORE])
async def test_its_plan_is_kept_after_the_first_five_executions(
    farm: Farm, purpose: Purpose, users: int, analyzed: bool
) -> None:
    """PostgreSQL takes longer to plan it than to execute it."""
    pool = await fill(farm, users)
    if purpose is Purpose.CHORE:
        await farm.sql.execute("UPDATE users SET status = 'dirty', status_since = now()")
    if analyzed:
        await farm.sql.execute("ANALYZE users")
    async with farm.database.direct() as executor:
        for _ in range(20):
            assert await acquire(executor, pool, 1, purpose=purpose)
        counts = await executor.execute(
            text("""SELECT generic_plans, custom_plans FROM pg_prepared_statements
                    ORDER BY generic_plans + custom_plans DESC LIMIT 1"""),
            {},
        )
    assert [tuple(each) for each in counts] == [(15, 5)]


@pytest.mark.parametrize("plan", PLANS)
async def test_it_starts_at_the_hand(farm: Farm, plan: str) -> None:
    """The rows that it reads do not depend on the size of the pool or of other pools."""
    for _ in range(3):
        pool = await fill(farm, 10_000)
    await farm.sql.execute("ANALYZE users")
    for hand in HANDS:
        nodes = _nodes(await explain(farm, pool, hand, plan_cache_mode=plan, options="ANALYZE, BUFFERS"))
        scans = [node for node in nodes if node.get("Index Name") == "ix_users_pool"]
        assert len(scans) == 2
        assert sum(node["Shared Hit Blocks"] + node["Shared Read Blocks"] for node in scans) < 20


async def test_in_steady_state_its_updates_are_hot(database_url: str) -> None:
    """An update that is not HOT leaves an entry in every index, and dead rows that only vacuum removes."""
    async with open_farm(database_url) as farm:
        pool = await fill(farm, 1_000)

        async def runner() -> None:
            for _ in range(100):
                async with farm.database.autocommit() as session:
                    lease = await acquire(session, pool, 1)
                assert lease is not None
                await farm.services.leases.release(RUNNER, lease.id)

        await asyncio.gather(*(runner() for _ in range(8)))
    connection = await asyncpg.connect(database_url)
    try:
        updates, hot = await _update_counts(connection, at_least=1_600)
    finally:
        await connection.close()
    assert hot / updates >= 0.95, (updates, hot)


async def explain(
    farm: Farm, pool: Pool, hand: UUID, *, plan_cache_mode: str, options: str = "VERBOSE off"
) -> dict[str, Any]:
    """The plan of the statement as it is prepared, so that a generic plan can be asked for too."""
    compiled = pool_grant_statements.GRANT.compile(dialect=dialect.dialect())
    latest = datetime.now(UTC) + timedelta(seconds=2)
    request = LeaseRequest(RUNNER, pool, terms=TERMS)
    values = pool_grant_queries._parameters([request], [uuid4()], None, hand=hand, latest=latest)
    arguments = ", ".join(_literal(values[name]) for name in compiled.positiontup or ())
    async with farm.database.transaction() as session:
        connection = await session.connection()
        await connection.exec_driver_sql(f"SET LOCAL plan_cache_mode = {plan_cache_mode}")
        await connection.exec_driver_sql(f"PREPARE acquire AS {compiled}")
        plan = await connection.exec_driver_sql(
            f"EXPLAIN (FORMAT JSON, {options}) EXECUTE acquire ({arguments})"
        )
        await connection.exec_driver_sql("DEALLOCATE acquire")
        return dict(plan.scalar_one()[0]["Plan"])


def _literal(value: object) -> str:
    match value:
        case None:
            return "NULL"
        case int():
            return str(value)
        case str() | UUID() | datetime():
            return f"'{value}'"
        case list():
            items = ",".join("NULL" if each is None else f'"{each}"' for each in value)
            return "'{" + items + "}'"
    raise TypeError(value)


def _nodes(plan: dict[str, Any]) -> Any:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


async def _update_counts(connection: asyncpg.Connection, *, at_least: int) -> tuple[int, int]:
    """A backend reports its counts when it ends; the last of them may be a moment late."""
    async with asyncio.timeout(60):
        while True:
            row = await connection.fetchrow(
                "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'users'"
            )
            if row["n_tup_upd"] >= at_least:
                return row["n_tup_upd"], row["n_tup_hot_upd"]
            await connection.execute("SELECT pg_stat_clear_snapshot()")
            await asyncio.sleep(0.05)
