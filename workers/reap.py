from botfarm.logs import get_logger
from botfarm.services.upkeep.maintenance import Maintenance

logger = get_logger(__name__)


async def reap(maintenance: Maintenance) -> None:
    reaped = await maintenance.reap()
    if reaped:
        logger.info("reaped expired leases", leases=reaped)
