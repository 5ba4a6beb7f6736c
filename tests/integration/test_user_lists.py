"""Lists of users by their state: what they show, and how much of a large pool they read for it."""

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.dialects import postgresql

from botfarm.db.stock.user_queries import listing
from botfarm.domain.access import EVERYTHING
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
        chosen = UserFilter(state=state)
        page = await farm.services.users.list(EVERYTHING, chosen, cursor=None, limit=100)
        assert {user.id for user in page.items} == seen[state]


@pytest.mark.parametrize("state", RARE)
async def test_a_rare_state_is_found_without_a_walk_through_the_pool(farm: Farm, state: UserState) -> None:
    await farm_with_each_state(farm)
    await farm.sql.execute(
        """INSERT INTO users (id, login, login_key, password, project_id, env, domain)
           SELECT gen_random_uuid(), n, n, 'v1.x.y', project_id, env, domain
           FROM (SELECT project_id, env, domain FROM users LIMIT 1) AS pool, generate_series(1, 20000) AS n"""
    )
    await farm.sql.execute("ANALYZE users")
    statement = listing(UserFilter(state=state), EVERYTHING, after=None, limit=100)
    sql = statement.compile(dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True})  # type: ignore[no-untyped-call]
    plan = await farm.sql.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}")
    read = sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        for node in nodes(json.loads(plan)[0]["Plan"])
        if node.get("Relation Name") == "users"
    )
    assert 0 < read < 100


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)
