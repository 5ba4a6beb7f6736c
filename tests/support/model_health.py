"""What the end of a lease makes of its users in the model, and the quarantine by policy."""

import math
from collections.abc import Iterable, Mapping
from uuid import UUID

from botfarm.domain.health import Health
from botfarm.domain.leases import BLAMELESS, REJECTED, Due, Outcome, Reason
from botfarm.domain.projects import Cleaning, ProjectPolicy
from botfarm.domain.users import UserStatus
from support.model_users import ModelLease, ModelUser, Moment, Said

HOUR = 3_600
IN_SERVICE = {UserStatus.ACTIVE, UserStatus.DIRTY}


def is_failure(said: Said) -> bool:
    return said.outcome is Outcome.BROKEN and said.reason not in BLAMELESS


def leave(at: Moment, lease: ModelLease, said: Said, due: Iterable[Due]) -> None:
    """Changes the user as the end of its lease does. Nobody has used a lease without an outcome."""
    user, policy = at.user, at.policy
    user.settled = True
    if said.outcome is None and not said.is_lost:
        return
    if said.outcome is Outcome.OK:
        user.failures = 0
    elif is_failure(said) or (said.is_lost and not lease.is_chore and policy.count_expired):
        user.failures += 1
    if not lease.is_chore:
        user.must_rotate |= policy.rotate_on_release
        if at.is_cleaned or (policy.cleaning is Cleaning.ON_DIRTY and said.outcome is Outcome.DIRTY):
            _become(user, UserStatus.DIRTY)
    elif said.outcome is Outcome.OK:
        _chore_is_done(at, due)
    else:
        _chore_has_failed(at, said)


def settle_expired(at: Moment) -> None:
    """What the next grant stores of a lease that has expired unseen."""
    lease = at.expired_unseen
    at.user.status, at.user.settled = at.status, True
    if lease and lease.is_chore:
        at.user.failed_chores += 1
    elif lease:
        at.user.failures += at.policy.count_expired
        at.user.must_rotate |= at.policy.rotate_on_release
    if at.user.status is not UserStatus.QUARANTINED:
        at.user.until = None


def quarantine_by_policy(
    failed: Mapping[UUID, Reason | None], pool: Mapping[UUID, ModelUser], policy: ProjectPolicy, now: float
) -> None:
    """Quarantines those that have failed too often: within an hour a share of the pool at most, but one."""
    recent = [user for user in pool.values() if is_recent(user, now)]
    in_service = [user for user in pool.values() if user.status in IN_SERVICE or user in recent]
    room = max(1, math.floor(policy.quarantine_share * len(in_service))) - len(recent)
    for user_id, user in sorted(pool.items()):
        if user_id not in failed or user.status not in IN_SERVICE:
            continue
        reason = _why(user, failed[user_id], policy)
        if reason and room > 0:
            room -= 1
            user.status, user.by_policy, user.reason, user.until = UserStatus.QUARANTINED, True, reason, None
            user.quarantined_by_policy_at = now
        elif reason:
            user.failed_chores = min(user.failed_chores, policy.clean_attempts - 1)


def is_recent(user: ModelUser, now: float) -> bool:
    return user.quarantined_by_policy_at is not None and user.quarantined_by_policy_at > now - HOUR


def trust_again(user: ModelUser) -> None:
    """New credentials may work where the old ones were rejected."""
    user.pending = None
    if user.health is Health.FAILING:
        user.health, user.health_reason = Health.UNKNOWN, None


def restore(at: Moment, *, clean: bool | None) -> bool:
    """Whether it was out of service."""
    user = at.user
    if user.status not in {UserStatus.DIRTY, UserStatus.QUARANTINED}:
        return False
    clean = at.is_cleaned if clean is None else clean
    user.status = UserStatus.DIRTY if clean or user.pending else UserStatus.ACTIVE
    user.by_policy, user.reason, user.until = False, None, None
    user.failures = user.failed_chores = 0
    user.health_reason = None
    if user.health is Health.FAILING:
        user.health = Health.UNKNOWN
    return True


def _chore_is_done(at: Moment, done: Iterable[Due]) -> None:
    user = at.user
    user.health, user.health_reason, user.failed_chores = Health.OK, None, 0
    user.checked_at, user.must_rotate = at.now, False
    if Due.ROTATE in done and user.pending is None:
        user.rotated_at = at.now
    _become(user, UserStatus.DIRTY if user.pending else UserStatus.ACTIVE)


def _chore_has_failed(at: Moment, said: Said) -> None:
    user = at.user
    if said.outcome is Outcome.BROKEN and said.reason is not Reason.RATE_LIMITED:
        user.checked_at = at.now
    if said.outcome is Outcome.BROKEN and said.reason in BLAMELESS:
        user.health = Health.UNREACHABLE if said.reason is Reason.ENVIRONMENT else user.health
        return
    if said.outcome is Outcome.BROKEN:
        user.health, user.health_reason = Health.FAILING, said.reason or Reason.OTHER
    user.failed_chores += 1
    _become(user, UserStatus.DIRTY)


def _become(user: ModelUser, status: UserStatus) -> None:
    if user.status in IN_SERVICE and user.status is not status:
        user.status, user.by_policy, user.reason = status, status is not UserStatus.ACTIVE, None


def _why(user: ModelUser, reason: Reason | None, policy: ProjectPolicy) -> str | None:
    if user.health is Health.FAILING and user.health_reason in REJECTED:
        return user.health_reason
    if policy.quarantine_after and user.failures >= policy.quarantine_after:
        return reason or Reason.OTHER
    return "cleaning_failed" if user.failed_chores >= policy.clean_attempts else None
