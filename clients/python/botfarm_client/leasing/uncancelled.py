import asyncio
from collections.abc import Coroutine
from typing import TypeVar

Result = TypeVar("Result")


async def run_uncancelled(coroutine: Coroutine[object, object, Result]) -> Result:
    """Awaits it to its end, even where the task that awaits is cancelled again and again; that counts afterwards."""
    running = asyncio.ensure_future(coroutine)
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait({running})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled:
        running.exception()  # it was looked at
        raise cancelled
    return running.result()
