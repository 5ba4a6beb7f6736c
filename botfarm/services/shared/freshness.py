"""The watch that keeps what requests rely on fresh, so that on the hot path the database is not asked."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from botfarm.errors import DatabaseUnavailableError
from botfarm.logs import get_logger
from botfarm.services.shared.ttl_cache import REFRESH_INTERVAL

logger = get_logger(__name__)


class Freshness:
    def __init__(self, refreshers: Sequence[Callable[[], Awaitable[None]]]) -> None:
        self._refreshers = refreshers

    async def watch(self) -> None:
        """Refreshes every two seconds, until cancelled."""
        while True:
            started = time.monotonic()
            for refresh in self._refreshers:
                try:
                    await refresh()
                except DatabaseUnavailableError:
                    pass  # logged where it was met; what is known is trusted for some seconds only
                except Exception:  # a watch that ends would make every request ask the database
                    logger.exception("refreshing what is known")
            await asyncio.sleep(max(0.0, REFRESH_INTERVAL - (time.monotonic() - started)))
