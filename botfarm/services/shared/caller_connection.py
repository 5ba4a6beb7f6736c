"""The caller's connection, as a service sees it during a long request."""

from typing import Protocol


class CallerConnection(Protocol):
    async def is_closed(self) -> bool:
        """True when the caller has disconnected. Does not wait."""

    async def until_closed(self) -> None:
        """Returns when the caller disconnects."""
