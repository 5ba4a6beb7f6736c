from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Self, Unpack

import httpx

from botfarm_client.connection.async_connection import AsyncConnection
from botfarm_client.connection.async_retrying import carry_out
from botfarm_client.connection.farm_settings import FarmSettings
from botfarm_client.errors import BotfarmError, LeaseLostError
from botfarm_client.leasing.async_lease import AsyncLease
from botfarm_client.leasing.async_renewer import AsyncRenewer
from botfarm_client.leasing.holder_requests import PATIENCE, release_steps
from botfarm_client.leasing.lease_exit import ExceptionTypes, exception_types, warn_of_what_is_left
from botfarm_client.leasing.lease_request import LeaseTerms, acquiring_for
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
        self, *, broken_on: ExceptionTypes = (), **terms: Unpack[LeaseTerms]
    ) -> AsyncIterator[AsyncLease]:
        """As `Botfarm.lease`.

        When the lease is lost, the block is cancelled, and that ends it with LeaseLostError.
        """
        broken = exception_types(broken_on)
        lease = await self.acquire(**terms)
        try:
            async with lease._cancelling_when_lost():  # noqa: SLF001  ours
                yield lease
        except BaseException as failure:
            await run_uncancelled(lease._leave(failure, broken))  # noqa: SLF001
            raise
        await run_uncancelled(lease._leave(None))  # noqa: SLF001

    async def acquire(self, **terms: Unpack[LeaseTerms]) -> AsyncLease:
        """As `Botfarm.acquire`."""
        acquiring = acquiring_for(self._settings, terms)
        try:
            grant = await carry_out(acquiring.steps(), self._connection)
            return AsyncLease(grant, self._connection, self._renewer, pool=acquiring.pool)
        except BotfarmError:
            raise
        except BaseException:
            with suppress(BotfarmError):
                await run_uncancelled(carry_out(acquiring.taking_back(), self._connection))
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
                await carry_out(release_steps(lease_clock, None, None, until=until), self._connection)
            except LeaseLostError:
                pass  # the holder can see the loss from the lease itself
            except BotfarmError as error:
                warn_of_what_is_left(lease_clock, error)
            self._renewer.remove(lease_clock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
