import threading
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, TypeVar

from typing_extensions import override

from botfarm_client.connection.api_calls import Call, Json
from botfarm_client.connection.connection import Connection
from botfarm_client.connection.retrying import Steps, carry_out
from botfarm_client.errors import BotfarmError, LeaseLostError
from botfarm_client.leasing.acquiring import Grant
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
from botfarm_client.leasing.lease_state import Callback, HeldLease, HeldUser
from botfarm_client.leasing.renewer import Renewer
from botfarm_client.leasing.verdicts import Outcome, Reason, Verdict

Result = TypeVar("Result")


class LeasedUser(HeldUser):
    def __init__(self, connection: Connection, lease_clock: LeaseClock, document: Json) -> None:
        super().__init__(lease_clock, document)
        self._connection = connection

    def totp(self, *, good_for: float | None = None) -> str:
        """A one-time code that nobody has got yet. Waits for the next one where it must, up to 30 seconds.

        `good_for`: seconds for which it is good at least, from 0 to 20; 5 when not given.
        Raises LeaseLostError, NoSuchUserError when the user has no TOTP seed, and ValueError.
        """
        return one_time_code(self._ask(self._asking_totp(good_for), patience=CODE_PATIENCE))

    def _write_back(
        self,
        password: str | None,
        secrets: Mapping[str, Any] | None,
        session_expires_at: datetime | None,
    ) -> None:
        __tracebackhide__ = True  # pytest would show the arguments
        call = self._writing_back(password, secrets, session_expires_at)
        self._take(held_user(self._ask(call)))

    def _start_rotation(self, password: str | None) -> str:
        __tracebackhide__ = True  # pytest would show the arguments
        pending = pending_password(self._ask(self._starting_rotation(password)))
        self._have(pending=pending)
        return pending

    def _confirm_rotation(self) -> None:
        self._take(held_user(self._ask(self._confirming_rotation())))

    def _ask(self, call: Call, *, patience: float | None = None) -> Json:
        return carry_out(request_steps(self._clock, call, patience=patience), self._connection)


class Lease(HeldLease[LeasedUser, threading.Event]):
    """Renewed by a thread until it is released. `lost` is a `threading.Event`."""

    def __init__(self, grant: Grant, connection: Connection, renewer: Renewer) -> None:
        """Raises UnexpectedAnswerError."""
        document, lease_clock = held_lease(grant.answer), LeaseClock(grant)
        users = tuple(LeasedUser(connection, lease_clock, each) for each in document["users"])
        super().__init__(grant, lease_clock, users=users, lost=threading.Event())
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
        session_expires_at: datetime | None = None,
        user: LeasedUser | None = None,
    ) -> None:
        """Stores credentials that a test has changed, for the next holder.

        `password`: the new password. Default: unchanged.
        `secrets`: merged into the stored secrets by name; None as a value removes a secret.
        `session_expires_at`: when the session among the secrets ends, with a time zone.
        `user`: one of `users`. Default: the only one.
        Raises LeaseLostError, ValueError when `user` is needed or not of this lease, and
        FarmUnreachableError or ProblemError when the farm could not store them for ten seconds.
        """
        __tracebackhide__ = True  # pytest would show the arguments
        written = self._one_of_them(user)
        written._write_back(password, secrets, session_expires_at)  # noqa: SLF001  of the same lease

    def start_rotation(self, user: LeasedUser | None = None, password: str | None = None) -> str:
        """Keeps a new password as pending, and returns it. Then set it in the system, and confirm it.

        No test gets the user until the rotation is confirmed. Once more returns the same password.
        `user`: one of `users`. Default: the only one.
        `password`: the new password. Default: the farm makes one, of 24 characters.
        Raises as `write_back`, and RotationPendingError when another password is pending.
        """
        __tracebackhide__ = True  # pytest would show the arguments
        return self._one_of_them(user)._start_rotation(password)  # noqa: SLF001  of the same lease

    def confirm_rotation(self, user: LeasedUser | None = None) -> None:
        """Makes the pending password the user's, because the system has it. Once more is the same as once.

        `user`: one of `users`. Default: the only one.
        Raises as `write_back`, and NoRotationError when no password is pending.
        """
        self._one_of_them(user)._confirm_rotation()  # noqa: SLF001  of the same lease

    def release(
        self, outcome: Outcome | None = None, note: str | None = None, *, reason: Reason | None = None
    ) -> None:
        """Gives the users back. A second call does nothing.

        `outcome`: how the users are left: `ok`, `dirty` or `broken`. Default: `ok`. Of a user that was
        marked, the mark counts.
        `note`: why, for the people who mend them.
        `reason`: why, for the farm; one of `verdicts.REASONS`.
        Raises ValueError for an outcome or a reason that does not exist, LeaseLostError when the lease
        had ended before, and FarmUnreachableError or ProblemError when the release failed for ten
        seconds. The lease then ends by itself.
        """
        self._release(Verdict(outcome, reason, note))

    def _release(self, of_all: Verdict) -> None:
        try:
            if not (self._clock.is_released or self._clock.is_inherited):
                self._carry_out(release_steps(self._clock, of_all))
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

    def _leave(self, failure: BaseException | None, reasons: Reasons = MappingProxyType({})) -> None:
        """Ends a `with` block. Raises LeaseLostError, unless the block raised something itself."""
        not_released = None
        try:
            self._release(ending(self._clock.verdicts, failure, reasons))
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


class Chore(HeldChore[Lease, LeasedUser]): ...
