import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from types import MappingProxyType
from typing import Any, TypeVar

from botfarm_client.connection.api_calls import Call, Json
from botfarm_client.connection.async_connection import AsyncConnection
from botfarm_client.connection.async_retrying import carry_out
from botfarm_client.connection.retrying import Steps
from botfarm_client.errors import BotfarmError, LeaseLostError
from botfarm_client.leasing.acquiring import Grant
from botfarm_client.leasing.async_renewer import AsyncRenewer
from botfarm_client.leasing.chore import HeldChore
from botfarm_client.leasing.holder_requests import (
    CODE_PATIENCE,
    release_steps,
    renewal_steps,
    request_steps,
)
from botfarm_client.leasing.lease_clock import LeaseClock
from botfarm_client.leasing.lease_documents import held_lease, held_user, one_time_code, pending_password
from botfarm_client.leasing.lease_exit import Reasons, ending, settle
from botfarm_client.leasing.lease_state import HeldLease, HeldUser
from botfarm_client.leasing.verdicts import Outcome, Reason, Verdict

Result = TypeVar("Result")


class AsyncLeasedUser(HeldUser):
    def __init__(self, connection: AsyncConnection, lease_clock: LeaseClock, document: Json) -> None:
        super().__init__(lease_clock, document)
        self._connection = connection

    async def totp(self, *, good_for: float | None = None) -> str:
        """As `LeasedUser.totp`."""
        return one_time_code(await self._ask(self._asking_totp(good_for), patience=CODE_PATIENCE))

    async def _write_back(
        self,
        password: str | None,
        secrets: Mapping[str, Any] | None,
        session_expires_at: datetime | None,
    ) -> None:
        __tracebackhide__ = True  # pytest would show the arguments
        call = self._writing_back(password, secrets, session_expires_at)
        self._take(held_user(await self._ask(call)))

    async def _start_rotation(self, password: str | None) -> str:
        __tracebackhide__ = True  # pytest would show the arguments
        pending = pending_password(await self._ask(self._starting_rotation(password)))
        self._have(pending=pending)
        return pending

    async def _confirm_rotation(self) -> None:
        self._take(held_user(await self._ask(self._confirming_rotation())))

    async def _ask(self, call: Call, *, patience: float | None = None) -> Json:
        return await carry_out(request_steps(self._clock, call, patience=patience), self._connection)


class AsyncLease(HeldLease[AsyncLeasedUser, asyncio.Event]):
    """Renewed by a task until it is released. `lost` is an `asyncio.Event`."""

    def __init__(self, grant: Grant, connection: AsyncConnection, renewer: AsyncRenewer) -> None:
        """Raises UnexpectedAnswerError."""
        document, lease_clock = held_lease(grant.answer), LeaseClock(grant)
        users = tuple(AsyncLeasedUser(connection, lease_clock, each) for each in document["users"])
        super().__init__(grant, lease_clock, users=users, lost=asyncio.Event())
        self._connection = connection
        self._renewer = renewer
        renewer.add(lease_clock, self._look)

    async def renew(self, ttl: int | None = None) -> None:
        """As `Lease.renew`."""
        await self._carry_out(renewal_steps(self._clock, ttl))

    async def write_back(
        self,
        *,
        password: str | None = None,
        secrets: Mapping[str, Any] | None = None,
        session_expires_at: datetime | None = None,
        user: AsyncLeasedUser | None = None,
    ) -> None:
        """As `Lease.write_back`."""
        __tracebackhide__ = True  # pytest would show the arguments
        written = self._one_of_them(user)
        await written._write_back(password, secrets, session_expires_at)  # noqa: SLF001  of the same lease

    async def start_rotation(self, user: AsyncLeasedUser | None = None, password: str | None = None) -> str:
        """As `Lease.start_rotation`."""
        __tracebackhide__ = True  # pytest would show the arguments
        return await self._one_of_them(user)._start_rotation(password)  # noqa: SLF001  of the same lease

    async def confirm_rotation(self, user: AsyncLeasedUser | None = None) -> None:
        """As `Lease.confirm_rotation`."""
        await self._one_of_them(user)._confirm_rotation()  # noqa: SLF001  of the same lease

    async def release(
        self, outcome: Outcome | None = None, note: str | None = None, *, reason: Reason | None = None
    ) -> None:
        """As `Lease.release`."""
        await self._release(Verdict(outcome, reason, note))

    async def _release(self, of_all: Verdict) -> None:
        try:
            if not (self._clock.is_released or self._clock.is_inherited):
                await self._carry_out(release_steps(self._clock, of_all))
        except BotfarmError:
            self._renewer.remove(self._clock)
            raise
        self._renewer.remove(
            self._clock
        )  # only now, so that `AsyncBotfarm.close` releases it when this was interrupted

    def let_go(self) -> None:
        """As `Lease.let_go`."""
        self._renewer.remove(self._clock)

    @asynccontextmanager
    async def _cancelling_when_lost(self) -> AsyncIterator[None]:
        """Cancels the block when the lease is lost, as `asyncio.timeout` does. Raises LeaseLostError."""
        alarm = asyncio.timeout(None)
        try:
            async with alarm:

                def ring(_: LeaseLostError) -> None:
                    with suppress(RuntimeError):  # the block is over
                        alarm.reschedule(0)

                self.on_lost(ring)
                yield
        except TimeoutError as error:
            if alarm.expired():
                raise LeaseLostError(str(self._clock.loss)) from error
            raise
        if alarm.expired():
            with suppress(asyncio.CancelledError):  # the block was over before the cancellation reached it
                await asyncio.sleep(0)

    async def _leave(self, failure: BaseException | None, reasons: Reasons = MappingProxyType({})) -> None:
        """Ends an `async with` block. Raises LeaseLostError, unless the block raised something itself."""
        not_released = None
        try:
            await self._release(ending(self._clock.verdicts, failure, reasons))
        except BotfarmError as error:
            not_released = error
        settle(self._clock, failure, not_released)

    async def _carry_out(self, steps: Steps[Result]) -> Result:
        try:
            return await carry_out(steps, self._connection)
        finally:
            self._look()


class AsyncChore(HeldChore[AsyncLease, AsyncLeasedUser]): ...
