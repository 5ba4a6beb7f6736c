from botfarm.logs import get_logger
from botfarm.services.upkeep.maintenance import Maintenance

logger = get_logger(__name__)


async def prune_tickets(maintenance: Maintenance) -> None:
    pruned = await maintenance.prune_tickets()
    if pruned:
        logger.info(
            "pruned tickets of replicas that are gone, or of keys that did not come back", tickets=pruned
        )
