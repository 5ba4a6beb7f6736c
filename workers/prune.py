from botfarm.logs import get_logger
from botfarm.services.maintenance import Maintenance

logger = get_logger(__name__)


async def prune(maintenance: Maintenance) -> None:
    leases = await maintenance.prune_history()
    audit_entries = await maintenance.prune_audit()
    if leases or audit_entries:
        logger.info("pruned history", leases=leases, audit_entries=audit_entries)
