"""Lists of users by state and health: what they show, and how much of a large pool they read for it."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.dialects.postgresql import asyncpg as dialect

from botfarm.db.stock.user_reading_queries import listing
from botfarm.domain.access import EVERYTHING
from botfarm.domain.health import Health
from botfarm.domain.leases import LeaseTerms
from botfarm.domain.users import UserFilter, UserState
from support.farm import MANAGER, Connection, Farm

RARE = (
    UserState.QUARANTINED,
    UserState.RETIRED,
    UserState.DIRTY,
    UserState.LEASED,
    UserState.HELD,
    UserState.CHORE,
)


async def farm_with_each_state(farm: Farm) -> None:
    """Users in every state; two are dirty, one of them since its lease expired, which no worker has seen."""
    pool = await farm.pool(10, cleaning="required", lock_delay=60)
    for _ in range(2):
        await farm.release(await farm.acquire(pool))
    await farm.chore(pool)
    await farm.expire((await farm.acquire(pool)).id)
    _, quarantined, retired, held, resting = [await farm.acquire(pool) for _ in range(5)]
    statuses = farm.services.user_statuses
    await statuses.quarantine(MANAGER, quarantined.users[0].id, reason="captcha", until=None)
    await statuses.retire(MANAGER, retired.users[0].id, reason="gone")
    for lease in (held, resting):
        await farm.services.leases.force_release(MANAGER, lease.id, reason="made room")
        await statuses.restore(MANAGER, lease.users[0].id, note=None, clean=False)
    await farm.sql.execute("UPDATE users SET available_at = now() WHERE id = $1", held.users[0].id)
    terms, connection = LeaseTerms(note="a look"), Connection()
    await farm.services.user_acquiring.hold(MANAGER, held.users[0].id, terms, connection=connection)


async def test_each_state_lists_the_users_that_are_in_it(farm: Farm) -> None:
    await farm_with_each_state(farm)
    seen: dict[UserState, set[UUID]] = defaultdict(set)
    for row in await farm.sql.fetch("SELECT id FROM users"):
        seen[(await farm.seen(row["id"])).state].add(row["id"])
    assert set(seen) == set(UserState)
    assert len(seen[UserState.DIRTY]) == 2
    for state in UserState:
        assert await pages(farm, UserFilter(state=state)) == sorted(seen[state])


async def test_a_rare_state_is_found_without_a_walk_through_the_pool(farm: Farm) -> None:
    await farm_with_each_state(farm)
    project_id = await fill_the_pool(farm)
    for state in RARE:
        assert 0 < await users_read(farm, UserFilter(state=state)) < 100, state
        assert 0 < await users_read(farm, UserFilter(state=state, project_id=project_id)) < 100, state


async def test_dirty_users_are_found_without_a_look_at_those_quarantined_for_good(farm: Farm) -> None:
    await farm_with_each_state(farm)
    await fill_the_pool(farm)
    await farm.sql.execute(
        "UPDATE users SET status = 'quarantined', status_since = now(), status_by = 'policy' WHERE login LIKE '%00'"
    )
    await farm.sql.execute("ANALYZE users")
    assert await users_read(farm, UserFilter(state=UserState.QUARANTINED)) >= 100
    assert 0 < await users_read(farm, UserFilter(state=UserState.DIRTY)) < 100


@pytest.mark.parametrize("health", [Health.FAILING, Health.UNREACHABLE])
async def test_users_that_do_not_work_are_found_without_a_walk_through_the_pool(
    farm: Farm, health: Health
) -> None:
    await farm_with_each_state(farm)
    await farm.sql.execute("UPDATE users SET health = $1", health)
    project_id = await fill_the_pool(farm)
    assert await users_read(farm, UserFilter(health=health)) == 10
    assert await users_read(farm, UserFilter(health=health, project_id=project_id)) == 10


async def fill_the_pool(farm: Farm) -> UUID:
    """Adds 20,000 free users to the only pool. Returns its project."""
    project_id: UUID = await farm.sql.fetchval("SELECT id FROM projects")
    await farm.sql.execute(
        """INSERT INTO users (id, login, login_key, password, project_id, env, domain)
           SELECT gen_random_uuid(), n, n, 'v1.x.y', project_id, env, domain
           FROM (SELECT project_id, env, domain FROM users LIMIT 1) AS pool, generate_series(1, 20000) AS n"""
    )
    await farm.sql.execute("ANALYZE users")
    return project_id


async def pages(farm: Farm, chosen: UserFilter) -> list[UUID]:
    """The users of a list that is read one by one."""
    found, cursor = [], None
    while True:
        page = await farm.services.users.list(EVERYTHING, chosen, cursor=cursor, limit=1)
        found += [user.id for user in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return found


async def users_read(farm: Farm, chosen: UserFilter) -> float:
    """Rows of users that a page reads, by the worse of its plans."""
    return max(
        sum(
            (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
            for node in nodes(plan)
            if node.get("Relation Name") == "users"
        )
        for plan in await plans(farm, chosen)
    )


async def plans(farm: Farm, chosen: UserFilter) -> list[dict[str, Any]]:
    """The plan for these values, and the one for any values, which a prepared statement may come to."""
    page = listing(chosen, EVERYTHING, after=None, limit=100).compile(dialect=dialect.dialect())
    values = ", ".join(f"'{page.params[name]}'" for name in page.positiontup or ())
    found = []
    for mode in ("force_custom_plan", "force_generic_plan"):
        async with farm.database.transaction() as session:
            connection = await session.connection()
            await connection.exec_driver_sql(f"SET LOCAL plan_cache_mode = {mode}")
            await connection.exec_driver_sql(f"PREPARE page AS {page}")
            plan = await connection.exec_driver_sql(
                f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE page{f'({values})' if values else ''}"
            )
            found.append(plan.scalar_one()[0]["Plan"])
            await connection.exec_driver_sql("DEALLOCATE page")
    return found


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)
