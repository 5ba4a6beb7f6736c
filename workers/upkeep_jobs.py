"""The worker's jobs: each function is one tick of a job and logs what it changed."""

import asyncio

from botfarm.logs import get_logger
from botfarm.services.upkeep.maintenance import Maintenance
from botfarm.services.usage.rolling_up import Rollups

logger = get_logger(__name__)

MAX_NAMED = 20
"""Users that one log line names."""


async def reap(maintenance: Maintenance) -> None:
    reaped = await maintenance.reap()
    if reaped:
        logger.info("reaped expired leases", leases=reaped)


async def refresh_gauges(maintenance: Maintenance) -> None:
    await maintenance.refresh_gauges()


async def prune_tickets(maintenance: Maintenance) -> None:
    pruned = await maintenance.prune_tickets()
    if pruned:
        logger.info(
            "pruned tickets of replicas that are gone, or of keys that did not come back", tickets=pruned
        )


async def fill_login_keys(maintenance: Maintenance, stop: asyncio.Event) -> None:
    filled, refused = await maintenance.fill_login_keys(stop)
    if filled:
        logger.info("normal forms of logins stored", users=filled)
    if refused:  # at every tick, because only a person can tell which of the users is to stay
        logger.warning(
            "users are the same account as another user: delete them, or change their logins",
            users=len(refused),
            ids=[str(user_id) for user_id in refused[:MAX_NAMED]],
        )


async def roll_up(rollups: Rollups, stop: asyncio.Event) -> None:
    """Ends early when `stop` is set, because a long history takes longer than the worker is given to end."""
    stretches = await rollups.roll_up(stop)
    if stretches > 1:
        logger.info("rolled up how the pools were used", stretches=stretches)


async def prune(maintenance: Maintenance, rollups: Rollups, stop: asyncio.Event) -> None:
    """Ends early when `stop` is set, because a backlog may take longer than the worker is given to end."""
    leases = await maintenance.prune_history(stop)
    refusals = await maintenance.prune_refusals(stop)
    audit_entries = await maintenance.prune_audit(stop)
    run_tokens = await maintenance.prune_run_tokens(stop)
    old_rollups = await rollups.prune()
    if leases or refusals or audit_entries or run_tokens or old_rollups:
        logger.info(
            "pruned history",
            leases=leases,
            refusals=refusals,
            audit_entries=audit_entries,
            run_tokens=run_tokens,
            rollups=old_rollups,
        )
