import threading
from collections.abc import Mapping
from typing import Any, TypeVar

from typing_extensions import override

from botfarm_client.connection.api_calls import Call, Json
from botfarm_client.connection.connection import Connection
from botfarm_client.connection.retrying import Steps, carry_out
from botfarm_client.errors import BotfarmError, LeaseLostError
from botfarm_client.leasing.acquiring import Grant
from botfarm_client.leasing.holder_requests import release_steps, renewal_steps, request_steps
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
        """The current one-time code.

        Raises LeaseLostError, and NoSuchUserError when the user has no TOTP seed.
        """
        return one_time_code(self._ask(self._asking_totp()))

    def _write_back(self, password: str | None, secrets: Mapping[str, Any] | None) -> None:
        __tracebackhide__ = True  # pytest would show the arguments
        self._take(held_user(self._ask(self._writing_back(password, secrets))))

    def _ask(self, call: Call) -> Json:
        return carry_out(request_steps(self._clock, call), self._connection)


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
        """Renews the lease now, instead of when it is due.

        `ttl`: seconds from now to the end of the lease. Default: the TTL that it was acquired with.
        Raises LeaseLostError, and FarmUnreachableError or ProblemError when it could not be renewed
        for ten seconds.
        """
        self._carry_out(renewal_steps(self._clock, ttl))

    def write_back(
        self,
        *,
        password: str | None = None,
        secrets: Mapping[str, Any] | None = None,
        user: LeasedUser | None = None,
    ) -> None:
        """Stores credentials that a test has changed, for the next holder.

        `password`: the new password. Default: unchanged.
        `secrets`: merged into the stored secrets by name; None as a value removes a secret.
        `user`: one of `users`. Default: the only one.
        Raises LeaseLostError, ValueError when `user` is needed or not of this lease, and
        FarmUnreachableError or ProblemError when the farm could not store them for ten seconds.
        """
        __tracebackhide__ = True  # pytest would show the arguments
        self._one_of_them(user)._write_back(password, secrets)  # noqa: SLF001  of the same lease

    def release(self, outcome: Outcome | None = None, note: str | None = None) -> None:
        """Gives the users back. A second call does nothing.

        `outcome`: how the users are left: `ok`, `dirty` or `broken`. Default: `ok`.
        `note`: why, for the people who mend them.
        Raises LeaseLostError when the lease had ended before, and FarmUnreachableError or
        ProblemError when the release failed for ten seconds. The lease then ends by itself.
        """
        try:
            if not (self._clock.is_released or self._clock.is_inherited):
                self._carry_out(release_steps(self._clock, outcome, note))
        except BotfarmError:
            self._renewer.remove(self._clock)
            raise
        self._renewer.remove(
            self._clock
        )  # only now, so that `Botfarm.close` releases it when this was interrupted

    def let_go(self) -> None:
        """Stops renewing the lease without releasing it.

        It ends by itself, or is renewed and released by its id.
        """
        self._renewer.remove(self._clock)

    def _leave(
        self,
        failure: BaseException | None,
        broken_on: tuple[type[BaseException], ...] = (),
    ) -> None:
        """Ends a `with` block. Raises LeaseLostError, unless the block raised something itself."""
        not_released = None
        try:
            self.release(*ending(failure, broken_on))
        except BotfarmError as error:
            not_released = error
        settle(self._clock, failure, not_released)

    @override
    def _tell(self, callback: Callback, loss: LeaseLostError) -> None:
        """Runs the callback in a thread of its own: the renewer must go on renewing the other leases."""
        telling = threading.Thread(
            target=super()._tell, args=(callback, loss), name="botfarm-on-lost", daemon=True
        )
        try:
            telling.start()
        except RuntimeError:  # no more threads are allowed, or the process is ending
            super()._tell(callback, loss)

    def _carry_out(self, steps: Steps[Result]) -> Result:
        """Carries the steps out, then calls the callbacks if they found that the lease is lost."""
        try:
            return carry_out(steps, self._connection)
        finally:
            self._look()
