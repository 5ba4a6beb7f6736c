"""What a lease and its users are to a holder, whether that is a thread or a task."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from logging import getLogger
from typing import Any, Generic, Literal, Protocol, TypeVar

from typing_extensions import override

from botfarm_client.connection.api_calls import Call, Json
from botfarm_client.errors import LeaseLostError
from botfarm_client.leasing.acquiring import Grant
from botfarm_client.leasing.lease_clock import LeaseClock

logger = getLogger("botfarm_client")

Outcome = Literal["ok", "dirty", "broken"]


Callback = Callable[[LeaseLostError], object]


class HeldUser:
    """A user in the hands of its holder. Once the lease is lost it gives no credentials any more."""

    def __init__(self, lease_clock: LeaseClock, document: Json) -> None:
        __tracebackhide__ = True  # pytest would show the arguments
        self._clock = lease_clock
        self.id = str(document["id"])
        self.login = str(document["login"])
        self.labels: Mapping[str, str] = dict(document["labels"])
        self._take(document)

    @property
    def password(self) -> str:
        """Raises LeaseLostError."""
        self._clock.check()
        return self._password

    @property
    def secrets(self) -> Mapping[str, Any]:
        """What else a test must know; empty where there is nothing. Raises LeaseLostError."""
        self._clock.check()
        return self._secrets

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}(id={self.id!r}, login={self.login!r}, labels={dict(self.labels)!r})"

    def _take(self, document: Json) -> None:
        __tracebackhide__ = True  # pytest would show the arguments
        self._password = str(document["password"])
        self._secrets: Mapping[str, Any] = dict(document.get("secrets") or {})

    def _path(self) -> str:
        return f"/leases/{self._clock.lease_id}/users/{self.id}"

    def _asking_totp(self) -> Call:
        return Call(method="GET", path=f"{self._path()}/totp")

    def _writing_back(self, password: str | None, secrets: Mapping[str, Any] | None) -> Call:
        __tracebackhide__ = True  # pytest would show the arguments
        changes: Json = {} if password is None else {"password": password}
        if secrets is not None:
            changes["secrets"] = dict(secrets)
        return Call(method="PATCH", path=self._path(), json=changes)


def user_documents(users: Iterable[HeldUser]) -> list[dict[str, Any]]:
    """Users with their credentials as the farm writes them. Raises LeaseLostError."""
    __tracebackhide__ = True  # pytest would show the arguments
    return [
        {"id": u.id, "login": u.login, "password": u.password, "labels": u.labels, "secrets": u.secrets}
        for u in users
    ]


class _Event(Protocol):
    def set(self) -> None: ...
    def is_set(self) -> bool: ...


UserT = TypeVar("UserT", bound=HeldUser)
EventT = TypeVar("EventT", bound=_Event)


class HeldLease(Generic[UserT, EventT]):
    def __init__(
        self, grant: Grant, lease_clock: LeaseClock, *, pool: str, users: tuple[UserT, ...], lost: EventT
    ) -> None:
        self.id = lease_clock.lease_id
        self.fence = int(grant.answer["fence"])
        self.pool = pool
        """`project/env/domain`, as they were asked for."""
        self.users = users
        self.lost = lost
        """Set as soon as the lease is lost, and before anybody else can have its users."""
        self._clock = lease_clock
        self._callbacks: deque[Callback] = deque()

    @property
    def user(self) -> UserT:
        """The only one."""
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
        """Raises LeaseLostError; once it is released, too."""
        self._look()
        self._clock.check()

    def on_lost(self, callback: Callback) -> None:
        """Calls it once, `lost` being set; at once when the lease is lost already. What it raises is logged."""
        self._callbacks.append(callback)
        self._look()

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}(id={self.id!r}, pool={self.pool!r}, users={self.users!r})"

    def _look(self) -> LeaseLostError | None:
        """The loss, if there is one; who finds it tells the others."""
        loss = self._clock.look()
        if loss is None:
            return None
        self.lost.set()
        while self._callbacks:
            with suppress(IndexError):  # another thread has taken the last one
                self._tell(self._callbacks.popleft(), loss)
        return loss

    def _tell(self, callback: Callback, loss: LeaseLostError) -> None:
        """Whatever it raises, SystemExit too, must not end who found the loss: the leases that are left are in its care."""
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
