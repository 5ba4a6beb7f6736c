"""The users and leases of a fake farm, as they are at this moment."""

import threading
from collections.abc import Mapping
from typing import Any, Literal

from botfarm_client.shared import clock
from botfarm_client.testing.fake_health import Verdict, leave, quarantine_by_policy
from botfarm_client.testing.fake_policy import FakePolicy
from botfarm_client.testing.fake_state import end_quarantine
from botfarm_client.testing.fake_users import FakeLease, FakeProblem, FakeUser

_LOST: Verdict = {"outcome": "lost"}


class FakeStock:
    """Callers hold the lock while they use it, and call `settle` first."""

    def __init__(self, users: list[FakeUser], policy: FakePolicy, *, default_domain: str) -> None:
        self.lock = threading.RLock()
        self.policy = policy
        self.default_domain = default_domain
        self.users = users
        """The next one to be leased first."""
        self.leases: list[FakeLease] = []
        """Also ended ones, the oldest first."""

    def settle(self) -> None:
        """Lets happen what time has brought: leases expire, quarantines end."""
        for lease in self.leases:
            if lease.is_live and lease.expires_at <= clock.now():
                self.end(lease, "expired", rest=self.policy.lock_delay)
        for user in self.users:
            end_quarantine(user, self.policy)

    def end(
        self,
        lease: FakeLease,
        ended_by: Literal["released", "expired", "forced"],
        *,
        rest: float,
        verdicts: Mapping[str, Verdict] | None = None,
    ) -> None:
        lease.ended_by, lease.ended_at = ended_by, min(lease.expires_at, clock.now())
        lease.verdicts = verdicts or {}
        judged: dict[str, Verdict] = {}
        for user in lease.users:
            user.available_at = max(lease.ended_at + rest, lease.acquired_at + self.policy.login_gap)
            verdict = lease.verdicts.get(user.id, _LOST)
            leave(user, lease, verdict, self.policy)
            if verdict["outcome"] != "ok":
                judged[user.id] = verdict
        pool = [user for user in self.users if (user.env, user.domain) == (lease.env, lease.domain)]
        quarantine_by_policy(judged, pool, self.policy)

    def lease(self, lease_id: str) -> FakeLease:
        """Raises FakeProblem."""
        self.settle()
        for lease in self.leases:
            if lease.id == lease_id:
                return lease
        raise FakeProblem("no-such-lease")

    def live_lease(self, lease_id: str) -> FakeLease:
        """Raises FakeProblem."""
        lease = self.lease(lease_id)
        if not lease.is_live:
            raise FakeProblem("lease-lapsed")
        return lease

    def user(self, user_id: Any) -> FakeUser:
        """Raises FakeProblem."""
        self.settle()
        for user in self.users:
            if user.id == user_id:
                return user
        raise FakeProblem("no-such-user")

    def user_of(self, lease_id: str, user_id: str) -> FakeUser:
        """A user of a live lease. Raises FakeProblem."""
        for user in self.live_lease(lease_id).users:
            if user.id == user_id:
                return user
        raise FakeProblem("no-such-user")
