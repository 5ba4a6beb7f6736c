"""A chore: a user that is dirty or due, and the lease under which a keeper has it."""

from typing import Any, Generic, TypeVar

from typing_extensions import override

from botfarm_client.leasing.lease_state import HeldLease, HeldUser
from botfarm_client.leasing.verdicts import UNFINISHED, Outcome, Reason, Verdict

LeaseT = TypeVar("LeaseT", bound=HeldLease[Any, Any])
UserT = TypeVar("UserT", bound=HeldUser)


class HeldChore(Generic[LeaseT, UserT]):
    def __init__(self, lease: LeaseT) -> None:
        self.lease = lease
        self.user: UserT = lease.user

    @property
    def due(self) -> tuple[str, ...]:
        """What is to be done: some of `clean`, `check`, `rotate`, `session`."""
        return self.user.due

    @property
    def verdict(self) -> Verdict:
        """How the chore has ended: as its release said.

        It is not finished if its lease is lost, or while a new password is pending: the farm gives it again.
        """
        said: Verdict = self.lease._clock.verdicts.of_user(self.user.id)  # noqa: SLF001  ours
        is_pending = self.user._pending_password is not None  # noqa: SLF001  ours
        if self.lease.lost.is_set() or (is_pending and said.reason is None):
            return UNFINISHED
        return said

    def mark(self, outcome: Outcome, *, reason: Reason | None = None, note: str | None = None) -> None:
        """Says how the chore ends; without it, it ends as `ok`: all that was due is done.

        Raises as `user.mark`.
        """
        self.user.mark(outcome, reason=reason, note=note)

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}(due={self.due!r}, lease={self.lease!r})"
