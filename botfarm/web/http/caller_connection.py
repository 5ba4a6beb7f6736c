"""The connection of a request: what has arrived on it already, and whether the caller has hung up."""

from fastapi import Request
from starlette.types import Message, Receive


def buffered_message(receive: Receive) -> Message | None:
    """The next message if it has arrived already, else None. A message that arrives later is not lost.

    Starts the coroutine and takes its value if it ends without waiting; the event loop does not turn.
    """
    waiting = receive()
    try:
        waiting.send(None)  # type: ignore[attr-defined]
    except StopIteration as answered:
        message: Message = answered.value
        return message
    waiting.close()  # type: ignore[attr-defined]
    return None


async def has_hung_up(receive: Receive) -> bool:
    """Whether the caller has hung up.

    Only for a request whose body was read, because then the next message is the disconnect.
    """
    message = buffered_message(receive)
    return message is not None and message["type"] == "http.disconnect"


class RequestConnection:
    """The caller's connection of a request whose body was read."""

    def __init__(self, request: Request) -> None:
        self._request = request

    async def is_closed(self) -> bool:
        return await has_hung_up(self._request.receive)

    async def until_closed(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
