"""How a service knows, while a request takes its time, that its caller is still there and still welcome."""

from typing import Protocol


class Lifeline(Protocol):
    async def has_gone(self) -> bool:
        """Whether the caller has hung up."""

    async def until_gone(self) -> None:
        """Returns when the caller hangs up."""

    async def check_welcome(self) -> None:
        """Raises UnauthenticatedError when the caller's token or session has ended since the request came."""
