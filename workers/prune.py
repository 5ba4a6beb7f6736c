import asyncio

from botfarm.logs import get_logger
from botfarm.services.upkeep.maintenance import Maintenance

logger = get_logger(__name__)


async def prune(maintenance: Maintenance, stop: asyncio.Event) -> None:
    """A backlog may take longer than the worker is given to end: what is left is the next one's."""
    leases = await maintenance.prune_history(stop)
    audit_entries = await maintenance.prune_audit(stop)
    if leases or audit_entries:
        logger.info("pruned history", leases=leases, audit_entries=audit_entries)
