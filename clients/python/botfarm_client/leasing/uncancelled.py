import asyncio
from collections.abc import Coroutine
from typing import TypeVar

Result = TypeVar("Result")


async def run_uncancelled(coroutine: Coroutine[object, object, Result]) -> Result:
    """Awaits the coroutine to its end, even if the task is cancelled meanwhile.

    Then raises the CancelledError.
    """
    running = asyncio.ensure_future(coroutine)
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait({running})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled:
        running.exception()  # marks it as retrieved: asyncio would log it
        raise cancelled
    return running.result()
