"""That this replica is alive: said once a second while requests wait here, so that their tickets count."""

import asyncio
from collections.abc import Callable, Collection
from uuid import UUID

from botfarm.db.postgres.engine import Database
from botfarm.db.waiting import ticket_queries
from botfarm.errors import UnavailableError
from botfarm.logs import get_logger

logger = get_logger(__name__)

INTERVAL = 1.0
"""Seconds. After five without, the replica's tickets count no more."""


class Presence:
    def __init__(
        self,
        database: Database,
        replica_id: UUID,
        *,
        is_needed: Callable[[], bool],
        known: Callable[[], Collection[int]],
        arriving: asyncio.Lock,
    ) -> None:
        """`known` are the ids of the tickets that somebody waits with here; while `arriving` is held, some are being made."""
        self._database = database
        self._replica_id = replica_id
        self._is_needed = is_needed
        self._known = known
        self._arriving = arriving
        self._may_have_strays = False
        self._seen_at = float("-inf")
        self._turn = asyncio.Lock()
        self._beating: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Before a ticket is made: from the return on it counts."""
        async with self._turn:
            if asyncio.get_running_loop().time() - self._seen_at >= INTERVAL:
                await self._say()
        self._go_on()

    def suspect_strays(self) -> None:
        """A ticket may be there that nobody waits with: it is looked for soon."""
        self._may_have_strays = True
        self._go_on()

    async def close(self) -> None:
        if self._beating:
            self._beating.cancel()
            await asyncio.wait({self._beating})

    def _go_on(self) -> None:
        if self._beating is None:
            self._beating = asyncio.create_task(self._beat())

    async def _beat(self) -> None:
        try:
            while True:
                await asyncio.sleep(INTERVAL)
                if not self._is_needed() and not self._may_have_strays:
                    return
                try:
                    await self._say()
                    if self._may_have_strays:
                        await self._remove_strays()
                except UnavailableError:
                    pass  # what the engine has logged
                except Exception:
                    logger.exception("presence")
        finally:
            self._beating = None

    async def _say(self) -> None:
        async with self._database.autocommit() as session:
            await ticket_queries.is_seen(session, self._replica_id)
        self._seen_at = asyncio.get_running_loop().time()

    async def _remove_strays(self) -> None:
        """Their places are kept for the keys that they may have: a caller may come back."""
        async with self._arriving, self._database.autocommit() as session:
            self._may_have_strays = False
            try:
                strays = await ticket_queries.strays(session, self._replica_id, known=self._known())
                await ticket_queries.leave(
                    session, [(stray, True) for stray in strays], replica=self._replica_id
                )
            except BaseException:
                self._may_have_strays = True
                raise
