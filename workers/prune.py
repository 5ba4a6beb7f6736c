from botfarm.logs import get_logger
from botfarm.services.maintenance import Maintenance

logger = get_logger(__name__)


async def prune(maintenance: Maintenance) -> None:
    pruned = await maintenance.prune_history()
    if pruned:
        logger.info("pruned history", leases=pruned)
