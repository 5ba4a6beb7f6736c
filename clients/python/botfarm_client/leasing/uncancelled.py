import asyncio
from collections.abc import Coroutine
from typing import TypeVar

Result = TypeVar("Result")


async def finish(last_words: Coroutine[object, object, Result]) -> Result:
    """Awaits it to its end, even where the task that awaits is cancelled again and again; that counts afterwards."""
    speaking = asyncio.ensure_future(last_words)
    cancelled: asyncio.CancelledError | None = None
    while not speaking.done():
        try:
            await asyncio.wait({speaking})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled:
        speaking.exception()  # it was looked at
        raise cancelled
    return speaking.result()
