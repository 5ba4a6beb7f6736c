from fastapi import Request
from starlette.types import Message, Receive


def at_once(receive: Receive) -> Message | None:
    """The next message if it is there already; None where it would have to be waited for, which takes no harm from that."""
    waiting = receive()
    try:
        waiting.send(None)  # type: ignore[attr-defined]
    except StopIteration as answered:
        message: Message = answered.value
        return message
    waiting.close()  # type: ignore[attr-defined]
    return None


async def has_hung_up(receive: Receive) -> bool:
    """Whether the caller is gone, once its body was read: after that only the end of the connection comes."""
    message = at_once(receive)
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
