"""A lease and its users as their holder sees them: the part that is the same for threads and tasks."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from logging import getLogger
from typing import Any, Generic, Protocol, TypeVar

from typing_extensions import override

from botfarm_client.connection.api_calls import LONGEST_CODE_WAIT, LONGEST_GOOD_FOR, Call, Json
from botfarm_client.errors import LeaseLostError
from botfarm_client.leasing.acquiring import Grant
from botfarm_client.leasing.lease_clock import LeaseClock
from botfarm_client.leasing.verdicts import Outcome, Reason, Verdict

logger = getLogger("botfarm_client")

Callback = Callable[[LeaseLostError], object]


class HeldUser:
    """A user under a lease. Once the lease is lost or released, its credentials cannot be read any more."""

    def __init__(self, lease_clock: LeaseClock, document: Json) -> None:
        __tracebackhide__ = True  # pytest would show the arguments
        self._clock = lease_clock
        self.id = str(document["id"])
        self.login = str(document["login"])
        self.labels: Mapping[str, str] = dict(document["labels"])
        self.due: tuple[str, ...] = tuple(document.get("due", ()))
        """Of a chore, what is to be done: `clean`, `check`, `rotate`, `session`."""
        self._on_credentials: Callable[[], object] | None = None
        self._take(document)

    @property
    def password(self) -> str:
        """Raises LeaseLostError."""
        self._clock.check()
        return self._password

    @property
    def secrets(self) -> Mapping[str, Any]:
        """Further credentials by name, as JSON; often empty. Raises LeaseLostError."""
        self._clock.check()
        return self._secrets

    @property
    def pending_password(self) -> str | None:
        """The new password while a rotation is under way: it may be set in the system, or not yet.

        Raises LeaseLostError.
        """
        self._clock.check()
        return self._pending_password

    def mark(self, outcome: Outcome, *, reason: Reason | None = None, note: str | None = None) -> None:
        """Says how this user is left, instead of what the release says of all. The last mark counts.

        The release sends it. `outcome`, `reason` and `note` are those of `Lease.release`.
        Raises ValueError for an outcome or a reason that does not exist, and LeaseLostError.
        """
        verdict = Verdict(outcome, reason, note)
        self._clock.check()
        self._clock.verdicts.mark(self.id, verdict)

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}(id={self.id!r}, login={self.login!r}, labels={dict(self.labels)!r})"

    def _take(self, document: Json) -> None:
        __tracebackhide__ = True  # pytest would show the arguments
        self._password = str(document["password"])
        self._secrets: Mapping[str, Any] = dict(document.get("secrets") or {})
        self._have(pending=document.get("pending_password"))

    def _have(self, *, pending: str | None) -> None:
        __tracebackhide__ = True  # pytest would show the arguments
        self._pending_password = pending
        if self._on_credentials is not None:
            self._on_credentials()

    def _path(self) -> str:
        return f"/leases/{self._clock.lease_id}/users/{self.id}"

    def _asking_totp(self, good_for: float | None) -> Call:
        """Raises ValueError."""
        if good_for is not None and not 0 <= good_for <= LONGEST_GOOD_FOR:
            raise ValueError(f"good_for must be from 0 to {LONGEST_GOOD_FOR} seconds")
        query = "" if good_for is None else f"?good_for={good_for:g}"
        return Call(method="GET", path=f"{self._path()}/totp{query}", wait=LONGEST_CODE_WAIT)

    def _writing_back(
        self,
        password: str | None,
        secrets: Mapping[str, Any] | None,
        session_expires_at: datetime | None,
    ) -> Call:
        __tracebackhide__ = True  # pytest would show the arguments
        changes: Json = {} if password is None else {"password": password}
        if secrets is not None:
            changes["secrets"] = dict(secrets)
        if session_expires_at is not None:
            if session_expires_at.utcoffset() is None:
                raise ValueError("session_expires_at has no time zone")
            changes["session_expires_at"] = session_expires_at.isoformat()
        return Call(method="PATCH", path=self._path(), json=changes)

    def _starting_rotation(self, password: str | None) -> Call:
        __tracebackhide__ = True  # pytest would show the arguments
        wanted: Json = {} if password is None else {"password": password}
        return Call(method="POST", path=f"{self._path()}/rotation", json=wanted)

    def _confirming_rotation(self) -> Call:
        return Call(method="POST", path=f"{self._path()}/rotation/confirm")


def user_documents(users: Iterable[HeldUser]) -> list[dict[str, Any]]:
    """The users with their credentials, as the API writes them. Raises LeaseLostError."""
    __tracebackhide__ = True  # pytest would show the arguments
    return [
        {
            "id": u.id,
            "login": u.login,
            "password": u.password,
            "labels": u.labels,
            "secrets": u.secrets,
            **({"pending_password": u.pending_password} if u.pending_password is not None else {}),
        }
        for u in users
    ]


class _Event(Protocol):
    def set(self) -> None: ...
    def is_set(self) -> bool: ...


UserT = TypeVar("UserT", bound=HeldUser)
EventT = TypeVar("EventT", bound=_Event)


class HeldLease(Generic[UserT, EventT]):
    def __init__(
        self, grant: Grant, lease_clock: LeaseClock, *, users: tuple[UserT, ...], lost: EventT
    ) -> None:
        self.id = lease_clock.lease_id
        self.fence = int(grant.answer["fence"])
        self.pool = grant.pool
        """`project/env/domain`, with the project as the caller gave it; of a hold of one user, its id."""
        self.users = users
        self.lost = lost
        """Set when the lease is lost, before its users can be leased to anybody else."""
        self._clock = lease_clock
        self._callbacks: deque[Callback] = deque()

    @property
    def user(self) -> UserT:
        """The user of a lease of one. Raises ValueError if there are several."""
        if len(self.users) != 1:
            raise ValueError(f"this lease has {len(self.users)} users: take them from `users`")
        return self.users[0]

    @property
    def expires_in(self) -> float:
        """Seconds until the farm ends the lease, unless it is renewed."""
        return self._clock.expires_in

    @property
    def is_released(self) -> bool:
        return self._clock.is_released

    def check(self) -> None:
        """Raises LeaseLostError if the lease is lost or was released."""
        self._look()
        self._clock.check()

    def mark(
        self, user: UserT, outcome: Outcome, *, reason: Reason | None = None, note: str | None = None
    ) -> None:
        """As `user.mark`. Raises ValueError, too, for a user that is not of this lease."""
        self._one_of_them(user).mark(outcome, reason=reason, note=note)

    @property
    def names_a_broken_user(self) -> bool:
        """Whether a user was marked as broken. Then an exception says nothing of the others."""
        return self._clock.verdicts.names_a_broken_user

    def on_credentials(self, callback: Callable[[], object]) -> None:
        """Calls the callback after each change of a user's credentials, before the caller has them."""
        for user in self.users:
            user._on_credentials = callback  # noqa: SLF001  ours

    def on_lost(self, callback: Callback) -> None:
        """Calls the callback once when the lease is lost, after `lost` is set; at once if it is lost already.

        An exception of the callback is logged.
        """
        self._callbacks.append(callback)
        self._look()

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}(id={self.id!r}, pool={self.pool!r}, users={self.users!r})"

    def _look(self) -> LeaseLostError | None:
        """The loss, if there is one. The first caller to find it sets `lost` and calls the callbacks."""
        loss = self._clock.look()
        if loss is None:
            return None
        self.lost.set()
        while self._callbacks:
            with suppress(IndexError):  # another thread has called the last one
                self._tell(self._callbacks.popleft(), loss)
        return loss

    def _tell(self, callback: Callback, loss: LeaseLostError) -> None:
        """Logs what the callback raises, even SystemExit, because the caller may be the renewer thread."""
        try:
            callback(loss)
        except BaseException:
            logger.exception("a callback of the lost lease %s failed", self.id)

    def _one_of_them(self, user: UserT | None) -> UserT:
        if user is None:
            return self.user
        if user not in self.users:
            raise ValueError("this user is not of this lease")
        return user
