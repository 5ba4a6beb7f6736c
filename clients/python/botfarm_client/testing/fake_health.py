"""What a lease leaves behind at a user of a fake farm, and the quarantine by policy."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from botfarm_client.shared import clock
from botfarm_client.testing.fake_policy import FakePolicy
from botfarm_client.testing.fake_state import is_rejected, session_ends
from botfarm_client.testing.fake_users import FakeLease, FakeUser

BLAMELESS = frozenset({"rate_limited", "environment"})
"""These reasons say nothing about the user."""
HOUR = 3_600

Verdict = Mapping[str, Any]
"""`outcome`, `reason` and `note`. The outcome is `lost` when the lease has expired or was forced."""


def leave(user: FakeUser, lease: FakeLease, verdict: Verdict, policy: FakePolicy) -> None:
    """Changes the user as the end of its lease does."""
    outcome = verdict["outcome"]
    is_broken = outcome == "broken" and verdict.get("reason") not in BLAMELESS
    if outcome == "ok":
        user.failures = 0
    elif is_broken or (outcome == "lost" and lease.purpose != "chore" and policy.count_expired):
        user.failures += 1
    if lease.purpose != "chore":
        user.must_rotate |= policy.rotate_on_release
        if policy.cleans_after_tests or (policy.cleaning == "on_dirty" and outcome == "dirty"):
            _become(user, "dirty")
    elif outcome == "ok":
        _chore_is_done(user, lease.due[user.id], policy)
    else:
        _chore_has_failed(user, outcome, verdict.get("reason"))


def _chore_is_done(user: FakeUser, done: Sequence[str], policy: FakePolicy) -> None:
    user.health, user.health_reason, user.failed_chores = "ok", None, 0
    user.checked_at = user.healthy_at = clock.now()
    user.must_rotate = False
    if "rotate" in done and user.pending_password is None:
        user.rotated_at = clock.now()
    if "session" in done and session_ends(user, policy):
        user.session_expires_at = None
    _become(user, "active" if user.pending_password is None else "dirty")


def _chore_has_failed(user: FakeUser, outcome: str, reason: str | None) -> None:
    if outcome == "broken" and reason != "rate_limited":
        user.checked_at = clock.now()
    if outcome == "broken" and reason in BLAMELESS:
        if reason == "environment":
            user.health = "unreachable"
        return
    if outcome == "broken":
        user.health, user.health_reason = "failing", reason or "other"
    user.failed_chores += 1
    _become(user, "dirty")


def quarantine_by_policy(judged: Mapping[str, Verdict], pool: Sequence[FakeUser], policy: FakePolicy) -> None:
    """Quarantines those of the judged users that have failed too often, a share of the pool within an hour at most."""
    recent = [user for user in pool if _was_quarantined_lately(user)]
    in_service = [user for user in pool if user.status in {"active", "dirty"} or user in recent]
    room = max(1, math.floor(policy.quarantine_share * len(in_service))) - len(recent)
    for user in sorted(pool, key=lambda each: each.id):
        if user.id not in judged or user.status not in {"active", "dirty"}:
            continue
        reason = _why(user, judged[user.id], policy)
        if reason and room > 0:
            room -= 1
            user.set_status("quarantined", reason=reason)
            user.quarantined_by_policy_at = clock.now()
        elif reason:
            user.failed_chores = min(user.failed_chores, policy.clean_attempts - 1)


def trust_again(user: FakeUser) -> None:
    """New credentials may work where the old ones were rejected."""
    user.health_reason, user.pending_password = None, None
    if user.health == "failing":
        user.health = "unknown"


def _become(user: FakeUser, status: Any) -> None:
    if user.status in {"active", "dirty"} and user.status != status:
        user.set_status(status)


def _was_quarantined_lately(user: FakeUser) -> bool:
    at = user.quarantined_by_policy_at
    return at is not None and at > clock.now() - HOUR


def _why(user: FakeUser, verdict: Verdict, policy: FakePolicy) -> str | None:
    if is_rejected(user):
        return user.health_reason
    if policy.quarantine_after and user.failures >= policy.quarantine_after:
        return verdict.get("reason") or "other"
    return "cleaning_failed" if user.failed_chores >= policy.clean_attempts else None
