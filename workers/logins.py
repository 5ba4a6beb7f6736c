import asyncio

from botfarm.logs import get_logger
from botfarm.services.upkeep.maintenance import Maintenance

logger = get_logger(__name__)

MAX_NAMED = 20


async def fill_login_keys(maintenance: Maintenance, stop: asyncio.Event) -> None:
    filled, refused = await maintenance.fill_login_keys(stop)
    if filled:
        logger.info("normal forms of logins stored", users=filled)
    if refused:  # said at each turn, because only a person can tell which user is to stay
        logger.warning(
            "users are the same account as another user: delete them, or change their logins",
            users=len(refused),
            ids=[str(user_id) for user_id in refused[:MAX_NAMED]],
        )
