import threading
from collections.abc import Mapping
from typing import Any, TypeVar

from typing_extensions import override

from botfarm_client.connection.api_calls import Call, Json
from botfarm_client.connection.connection import Connection
from botfarm_client.connection.retrying import Steps, carry_out
from botfarm_client.errors import BotfarmError, LeaseLostError
from botfarm_client.leasing.acquiring import Grant
from botfarm_client.leasing.lease_clock import LeaseClock
from botfarm_client.leasing.lease_documents import held_lease, held_user, one_time_code
from botfarm_client.leasing.lease_exit import ending, settle
from botfarm_client.leasing.lease_state import Callback, HeldLease, HeldUser, Outcome
from botfarm_client.leasing.renewer import Renewer

Result = TypeVar("Result")


class LeasedUser(HeldUser):
    def __init__(self, connection: Connection, lease_clock: LeaseClock, document: Json) -> None:
        super().__init__(lease_clock, document)
        self._connection = connection

    def totp(self) -> str:
        """The one-time code of this moment. Raises LeaseLostError; NoSuchUserError when the user has no seed."""
        return one_time_code(self._ask(self._asking_totp()))

    def _write_back(self, password: str | None, secrets: Mapping[str, Any] | None) -> None:
        __tracebackhide__ = True  # pytest would show the arguments
        self._take(held_user(self._ask(self._writing_back(password, secrets))))

    def _ask(self, call: Call) -> Json:
        return carry_out(self._clock.asking(call), self._connection)


class Lease(HeldLease[LeasedUser, threading.Event]):
    """Renewed by a thread until it is released. `lost` is a `threading.Event`."""

    def __init__(self, grant: Grant, connection: Connection, renewer: Renewer, *, pool: str) -> None:
        """Raises UnexpectedAnswerError."""
        document, lease_clock = held_lease(grant.answer), LeaseClock(grant)
        users = tuple(LeasedUser(connection, lease_clock, each) for each in document["users"])
        super().__init__(grant, lease_clock, pool=pool, users=users, lost=threading.Event())
        self._connection = connection
        self._renewer = renewer
        renewer.add(lease_clock, self._look)

    def renew(self, ttl: int | None = None) -> None:
        """Now, instead of when it is due; for so many seconds from now on, else for as many as at first.

        Raises LeaseLostError, and what stands in the way of a renewal.
        """
        self._carry_out(self._clock.renewing(ttl))

    def write_back(
        self,
        *,
        password: str | None = None,
        secrets: Mapping[str, Any] | None = None,
        user: LeasedUser | None = None,
    ) -> None:
        """Keeps what a test changed for the next holder. Secrets are merged by their names, None removes one.

        Raises LeaseLostError, and what stands in the way.
        """
        __tracebackhide__ = True  # pytest would show the arguments
        self._one_of_them(user)._write_back(password, secrets)  # noqa: SLF001  of the same lease

    def release(self, outcome: Outcome | None = None, note: str | None = None) -> None:
        """Gives the users back; once more does nothing. Not reached, it is tried again for ten seconds.

        Raises LeaseLostError when the lease had ended before, FarmUnreachableError or ProblemError when nothing helped:
        then it ends by itself.
        """
        try:
            if not (self._clock.is_released or self._clock.is_inherited):
                self._carry_out(self._clock.releasing(outcome, note))
        except BotfarmError:
            self._renewer.remove(self._clock)
            raise
        self._renewer.remove(self._clock)  # only now: what is interrupted is left to the end of the farm

    def let_go(self) -> None:
        """Neither renews nor releases it any more: it ends by itself, and whoever has its id may renew and release it."""
        self._renewer.remove(self._clock)

    def _leave(
        self,
        failure: BaseException | None,
        broken_on: tuple[type[BaseException], ...] = (),
    ) -> None:
        """At the end of a `with` block. Raises LeaseLostError, unless something else is raised anyway."""
        not_released = None
        try:
            self.release(*ending(failure, broken_on))
        except BotfarmError as error:
            not_released = error
        settle(self._clock, failure, not_released)

    @override
    def _tell(self, callback: Callback, loss: LeaseLostError) -> None:
        """In a thread of its own: while it runs, the renewer must renew the leases that are left."""
        telling = threading.Thread(
            target=super()._tell, args=(callback, loss), name="botfarm-on-lost", daemon=True
        )
        try:
            telling.start()
        except RuntimeError:  # as many threads as may be, or the process is at its end
            super()._tell(callback, loss)

    def _carry_out(self, steps: Steps[Result]) -> Result:
        """Who finds out that the lease is lost tells the others."""
        try:
            return carry_out(steps, self._connection)
        finally:
            self._look()
