from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Self, Unpack

import httpx

from botfarm_client.connection.async_connection import AsyncConnection
from botfarm_client.connection.async_retrying import carry_out
from botfarm_client.connection.farm_settings import FarmSettings
from botfarm_client.errors import BotfarmError, LeaseLostError
from botfarm_client.leasing.acquiring import Acquiring, Grant
from botfarm_client.leasing.async_lease import AsyncChore, AsyncLease
from botfarm_client.leasing.async_renewer import AsyncRenewer
from botfarm_client.leasing.chore_line import ChoreLine
from botfarm_client.leasing.holder_requests import PATIENCE, release_steps
from botfarm_client.leasing.lease_exit import BrokenOn, reasons_of, warn_of_what_is_left
from botfarm_client.leasing.lease_request import LeaseTerms, WantedLabels, acquiring_for
from botfarm_client.leasing.uncancelled import run_uncancelled
from botfarm_client.shared import clock


class AsyncBotfarm:
    """A farm, for any number of tasks of one event loop."""

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        project: str | None = None,
        env: str | None = None,
        domain: str | None = None,
        wait: float | None = None,
        ttl: int | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """As `Botfarm`."""
        self._settings = FarmSettings.of(
            url, token, project=project, env=env, domain=domain, wait=wait, ttl=ttl
        )
        self._connection = AsyncConnection(self._settings.url, self._settings.token, transport=transport)
        self._renewer = AsyncRenewer(self._connection)

    @asynccontextmanager
    async def lease(
        self, *, broken_on: BrokenOn = (), **terms: Unpack[LeaseTerms]
    ) -> AsyncIterator[AsyncLease]:
        """As `Botfarm.lease`.

        When the lease is lost, the block is cancelled, and that ends it with LeaseLostError.
        """
        reasons = reasons_of(broken_on)
        lease = await self.acquire(**terms)
        try:
            async with lease._cancelling_when_lost():  # noqa: SLF001  ours
                yield lease
        except BaseException as failure:
            await run_uncancelled(lease._leave(failure, reasons))  # noqa: SLF001
            raise
        await run_uncancelled(lease._leave(None))  # noqa: SLF001

    async def acquire(self, **terms: Unpack[LeaseTerms]) -> AsyncLease:
        """As `Botfarm.acquire`."""
        lease = await self._take(acquiring_for(self._settings, terms))
        assert lease is not None  # noqa: S101  only a line of chores may end
        return lease

    def chores(
        self,
        *,
        project: str | None = None,
        env: str | None = None,
        domain: str | None = None,
        labels: WantedLabels | None = None,
        ttl: int | None = None,
        owner: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        forever: bool = False,
    ) -> AsyncGenerator[AsyncChore, None]:
        """As `Botfarm.chores`, with `async for`.

        A lost lease does not cancel the turn: `chore.lease.lost` tells. After a `break` the event loop
        releases the chore in a task of its own; `contextlib.aclosing` releases it before the next line.
        """
        terms: LeaseTerms = {
            "env": env,
            "domain": domain,
            "labels": labels,
            "ttl": ttl,
            "owner": owner,
            "metadata": metadata,
        }
        return self._turns(ChoreLine(self._settings, terms, project=project, forever=forever))

    async def _turns(self, line: ChoreLine) -> AsyncGenerator[AsyncChore, None]:
        while (lease := await self._take(line)) is not None:
            chore = AsyncChore(lease)
            try:
                yield chore
            except BaseException as failure:
                await run_uncancelled(lease._leave(failure))  # noqa: SLF001  ours
                raise
            with suppress(LeaseLostError):  # it is logged
                await run_uncancelled(lease._leave(None))  # noqa: SLF001
            line.ended(chore.user.id, chore.verdict)

    async def _take(self, source: Acquiring | ChoreLine) -> AsyncLease | None:
        try:
            grant: Grant | None = await carry_out(source.steps(), self._connection)
            if grant is None:
                return None
            return AsyncLease(grant, self._connection, self._renewer)
        except BotfarmError:
            raise
        except BaseException:
            with suppress(BotfarmError):
                await run_uncancelled(carry_out(source.taking_back(), self._connection))
            raise

    async def close(self) -> None:
        """As `Botfarm.close`. A cancellation takes effect when it is done."""
        try:
            await run_uncancelled(self._give_back(PATIENCE))
        finally:
            await self._renewer.close()
            await self._connection.close()

    async def _give_back(self, patience: float) -> None:
        until = clock.now() + patience
        for lease_clock in self._renewer.lease_clocks():
            if lease_clock.is_inherited:
                continue
            try:
                await carry_out(release_steps(lease_clock, until=until), self._connection)
            except LeaseLostError:
                pass  # the holder can see the loss from the lease itself
            except BotfarmError as error:
                warn_of_what_is_left(lease_clock, error)
            self._renewer.remove(lease_clock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
