"""Tickets and replicas without a process, as a test writes them."""

import json
from collections.abc import Mapping, Sequence
from uuid import UUID, uuid4

from botfarm.domain.pools import Pool
from support.farm import Farm


async def forge_replica(farm: Farm, *, seen_ago: float = 0) -> UUID:
    replica = uuid4()
    await farm.sql.execute(
        "INSERT INTO replicas VALUES ($1, clock_timestamp() - make_interval(secs => $2))", replica, seen_ago
    )
    return replica


async def forge_ticket(
    farm: Farm,
    pool: Pool,
    replica: UUID | None,
    *,
    count: int = 1,
    waited: float = 60,
    ends_in: float = 60,
    user_id: UUID | None = None,
    choices: Mapping[str, Sequence[str] | None] | None = None,
    **labels: str,
) -> int:
    """Returns its id."""
    return int(
        await farm.sql.fetchval(
            """INSERT INTO tickets (project_id, env, domain, labels, user_id, choices, count, priority, rank,
                                    arrived_at, replica, deadline, principal, owner)
               SELECT $1, $2, $3, $8, $9, $10, $5, 0, arrived, arrived,
                      $4, clock_timestamp() + make_interval(secs => $7), 'elsewhere', 'a job'
               FROM (SELECT clock_timestamp() - make_interval(secs => $6) AS arrived) AS c
               RETURNING id""",
            pool.project_id,
            pool.env,
            pool.domain,
            replica,
            count,
            waited,
            ends_in,
            json.dumps(labels),
            user_id,
            choices and json.dumps(choices),
        )
    )
