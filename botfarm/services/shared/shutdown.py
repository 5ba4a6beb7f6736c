"""The shutdown of this process, which ends the pauses of its requests."""

import asyncio

from botfarm.errors import ShuttingDownError


class Shutdown:
    def __init__(self) -> None:
        self._begun = asyncio.Event()

    def begin(self) -> None:
        """Ends every pause now, with ShuttingDownError."""
        self._begun.set()

    async def pause(self, seconds: float) -> None:
        """Raises ShuttingDownError when the process shuts down meanwhile."""
        try:
            await asyncio.wait_for(self._begun.wait(), timeout=seconds)
        except TimeoutError:
            return
        raise ShuttingDownError
