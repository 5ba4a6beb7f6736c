"""Status, health and counters of a user after its lease, as SQL for the statements that end leases."""

from botfarm.db.shared.user_state import CLEANED, with_status
from botfarm.domain.leases import BLAMELESS, Reason

# `lost` is the outcome of a lease that has expired or was forced: nobody has said how its users are. Without an
# outcome nobody has used the lease, and its users stay as they were.
_BLAMELESS = ", ".join(f"'{reason}'" for reason in sorted(BLAMELESS))
_BROKEN = f"(j.outcome = 'broken' AND coalesce(j.reason NOT IN ({_BLAMELESS}), true))"
_FAILED_CHORE = f"(j.purpose = 'chore' AND (j.outcome IN ('dirty', 'lost') OR {_BROKEN}))"
_CHORE_DONE = "(j.purpose = 'chore' AND j.outcome = 'ok')"

_STATUS = f"""
    CASE WHEN u.status IN ('quarantined', 'retired') OR j.outcome IS NULL THEN u.status
         WHEN {_CHORE_DONE} THEN CASE WHEN u.pending_password IS NULL THEN 'active' ELSE 'dirty' END
         WHEN {_FAILED_CHORE} THEN 'dirty'
         WHEN j.purpose = 'chore' THEN u.status
         WHEN {CLEANED} OR (p.cleaning = 'on_dirty' AND j.outcome = 'dirty') THEN 'dirty'
         ELSE u.status END"""

_HEALTH = f"""
    failures = CASE WHEN j.outcome = 'ok' THEN 0
                    WHEN {_BROKEN} OR (j.outcome = 'lost' AND j.purpose <> 'chore' AND p.count_expired)
                    THEN u.failures + 1 ELSE u.failures END,
    failed_chores = CASE WHEN {_CHORE_DONE} THEN 0
                         WHEN {_FAILED_CHORE} THEN u.failed_chores + 1 ELSE u.failed_chores END,
    health = CASE WHEN {_CHORE_DONE} THEN 'ok'
                  WHEN j.purpose = 'chore' AND {_BROKEN} THEN 'failing'
                  WHEN j.purpose = 'chore' AND j.outcome = 'broken' AND j.reason = '{Reason.ENVIRONMENT}'
                  THEN 'unreachable' ELSE u.health END,
    health_reason = CASE WHEN j.purpose = 'chore' AND {_BROKEN} THEN coalesce(j.reason, '{Reason.OTHER}')
                         WHEN {_CHORE_DONE} THEN NULL ELSE u.health_reason END,
    checked_at = CASE WHEN {_CHORE_DONE} OR (j.purpose = 'chore' AND j.outcome = 'broken'
                           AND j.reason IS DISTINCT FROM '{Reason.RATE_LIMITED}') THEN j.now ELSE u.checked_at END,
    healthy_at = CASE WHEN {_CHORE_DONE} THEN j.now ELSE u.healthy_at END"""

# With its `ok` a keeper says that all that was due is done.
_DONE = f"""
    must_rotate = CASE WHEN {_CHORE_DONE} THEN false
                       WHEN j.purpose <> 'chore' AND j.outcome IS NOT NULL THEN u.must_rotate OR p.rotate_on_release
                       ELSE u.must_rotate END,
    rotated_at = CASE WHEN {_CHORE_DONE} AND 'rotate' = ANY (j.due) AND u.pending_password IS NULL
                      THEN j.now ELSE u.rotated_at END,
    session_expires_at = CASE WHEN {_CHORE_DONE} AND 'session' = ANY (j.due)
                                   AND u.session_expires_at - make_interval(secs => p.session_refresh) <= j.now
                              THEN NULL ELSE u.session_expires_at END"""

AFTER = f"{with_status(_STATUS, 'j.now')}, {_HEALTH}, {_DONE}"
"""Sets what the end of its lease makes of the user `u` of the project `p`. `j` are the verdicts."""
