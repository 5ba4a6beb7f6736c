"""What a user is at a moment, for all statements: its status, its state, and from when on it may be leased.

Time alone changes a user: a lease expires, a quarantine ends. So each is an expression, which holds whether a worker
has stored the change or not. In each statement the user is `u`, its project `p`, and the clock is read once, as
`c.now`.
"""

from botfarm.domain.health import Health
from botfarm.domain.leases import REJECTED, Due

# The clock is read once for all rows, because the planner never pulls up a volatile subquery.
CLOCK = "(SELECT clock_timestamp() AS now) AS c"

CLEANED = "(p.cleaning = 'required' OR p.rotate_on_release)"
"""Whether a keeper comes after every test."""

IS_LIVE = "(u.locktime IS NOT NULL AND u.expires_at > c.now)"
_IS_CHORE = "coalesce(u.purpose = 'chore', false)"


def is_unclean(cleaned: str = CLEANED) -> str:
    """Whether the user will be dirty when its lease expires, or is it since then."""
    return f"(u.locktime IS NOT NULL AND ({_IS_CHORE} OR {cleaned}))"


# The status that counts. A lease that has expired unseen leaves a user dirty, and a quarantine ends by its time.
STATUS = f"""
    CASE WHEN u.status = 'active' AND {is_unclean()} AND u.expires_at <= c.now THEN 'dirty'
         WHEN u.status = 'quarantined' AND u.status_until <= c.now THEN
              CASE WHEN {CLEANED} OR {is_unclean()} OR u.pending_password IS NOT NULL THEN 'dirty' ELSE 'active' END
         ELSE u.status END"""

IN_SERVICE = f"(({STATUS}) IN ('active', 'dirty') OR ({IS_LIVE} AND coalesce(u.purpose, 'test') = 'test'))"
"""Whether the user is neither quarantined nor retired. A test that has it keeps it in service until its release."""

# The first case says the same as those after it, at once for the users of whom there are most.
USER_STATE = f"""
    CASE WHEN u.status = 'active' AND u.locktime IS NULL THEN
              CASE WHEN u.available_at > c.now THEN 'resting' ELSE 'free' END
         WHEN u.status = 'retired' THEN 'retired'
         WHEN {IS_LIVE} AND u.purpose = 'chore' THEN 'chore'
         WHEN {IS_LIVE} AND u.purpose = 'hold' THEN 'held'
         WHEN ({STATUS}) NOT IN ('active', 'dirty') THEN ({STATUS})
         WHEN {IS_LIVE} THEN 'leased'
         WHEN ({STATUS}) = 'dirty' THEN 'dirty'
         WHEN u.available_at > c.now THEN 'resting'
         ELSE 'free' END"""


def free_at(cleaned: str = CLEANED) -> str:
    """From when on a test may have the user; null when time alone never lets it."""
    return f"""
    CASE WHEN {is_unclean(cleaned)} THEN NULL
         WHEN u.status = 'active' THEN u.available_at
         WHEN u.status = 'quarantined' AND u.status_until IS NOT NULL
              AND u.pending_password IS NULL AND NOT {cleaned} THEN greatest(u.available_at, u.status_until)
         END"""


IS_DIRTY = f"""(u.status = 'dirty' OR (u.status = 'active' AND {is_unclean()})
    OR (u.status = 'quarantined' AND u.status_until IS NOT NULL
        AND ({CLEANED} OR {is_unclean()} OR u.pending_password IS NOT NULL)))"""
_CHECK_AT = """CASE WHEN p.check_every > 0
    THEN coalesce(u.checked_at + make_interval(secs => p.check_every), u.created_at) END"""
_ROTATE_AT = """CASE WHEN p.rotate_every > 0
    THEN coalesce(u.rotated_at, u.created_at) + make_interval(secs => p.rotate_every) END"""
_SESSION_AT = """CASE WHEN p.session_refresh > 0
    THEN u.session_expires_at - make_interval(secs => p.session_refresh) END"""
# Null when nothing will be due: `least` ignores nulls, and `greatest` would, too.
_DUE_AT = f"least({_CHECK_AT}, {_ROTATE_AT}, {_SESSION_AT})"
# A keeper must not sign in again with credentials that were rejected, because that locks the account.
_REJECTED = ", ".join(f"'{each}'" for each in sorted(REJECTED))
_MAY_SIGN_IN = f"NOT (u.health = 'failing' AND u.health_reason IN ({_REJECTED}))"

CHORE_AT = f"""
    CASE WHEN NOT ({_MAY_SIGN_IN})
           OR u.failed_chores + CAST(u.locktime IS NOT NULL AND {_IS_CHORE} AS integer) >= p.clean_attempts THEN NULL
         WHEN {IS_DIRTY} THEN greatest(u.available_at, u.status_until)
         WHEN (u.status = 'active' OR (u.status = 'quarantined' AND u.status_until IS NOT NULL))
              AND {_DUE_AT} IS NOT NULL THEN greatest(u.available_at, u.status_until, {_DUE_AT})
         END"""
"""From when on a keeper may have the user; null when time alone never lets it."""

MUST_ROTATE = f"(u.must_rotate OR (u.locktime IS NOT NULL AND NOT {_IS_CHORE} AND p.rotate_on_release))"

# What a keeper is to do with the user that it gets.
DUE = f"""
    array_remove(ARRAY[
        CASE WHEN {IS_DIRTY} THEN '{Due.CLEAN}' END,
        CASE WHEN {_CHECK_AT} <= c.now THEN '{Due.CHECK}' END,
        CASE WHEN {MUST_ROTATE} OR u.pending_password IS NOT NULL OR {_ROTATE_AT} <= c.now THEN '{Due.ROTATE}' END,
        CASE WHEN {_SESSION_AT} <= c.now THEN '{Due.SESSION}' END], NULL)"""

SETTLED = f"""
    failures = u.failures + CAST(u.locktime IS NOT NULL AND NOT {_IS_CHORE} AND p.count_expired AS integer),
    failed_chores = u.failed_chores + CAST(u.locktime IS NOT NULL AND {_IS_CHORE} AS integer),
    must_rotate = {MUST_ROTATE}"""
"""Sets what the end of an expired lease changes, at the user's next grant, or when the lease is reaped."""

TEST_SETTLED = """
    status = 'active', status_since = NULL, status_by = NULL, status_reason = NULL, status_until = NULL,
    failures = u.failures + CAST(u.locktime IS NOT NULL AND p.count_expired AS integer)"""
"""The same for a test, which gets only users that no keeper need see first."""


def with_status(status: str, now: str) -> str:
    """Sets the status, and what belongs to it, where it changes by policy."""
    return f"""
    status = {status},
    status_since = CASE {status} WHEN u.status THEN u.status_since WHEN 'active' THEN NULL ELSE {now} END,
    status_by = CASE {status} WHEN u.status THEN u.status_by WHEN 'active' THEN NULL ELSE 'policy' END,
    status_reason = CASE {status} WHEN u.status THEN u.status_reason END,
    status_until = CASE {status} WHEN u.status THEN u.status_until END"""


SEEN = f"""
    SELECT u.project_id, u.env, u.domain, u.health, p.name AS project_name, c.now,
           {USER_STATE} AS state, {free_at()} AS free_at,
           coalesce(u.status_since, u.expires_at) AS state_since"""
"""The columns that the counts below want, of users `u` with their projects `p` and the clock.

In a subquery with `OFFSET 0`, because the planner would else work the state out once for each count.
"""


def _count_of(health: Health) -> str:
    return f"count(*) FILTER (WHERE health = '{health}' AND state <> 'retired') AS health_{health}"


# A user that a lease has left dirty unseen is dirty since the lease's end.
POOL_HEALTH = f"""
    {", ".join(map(_count_of, Health))},
    extract(epoch FROM min(now) - min(state_since) FILTER (WHERE state = 'dirty'))::float8 AS oldest_dirty"""

POOL_COUNTS = """
    count(*) FILTER (WHERE state <> 'retired') AS total,
    count(*) FILTER (WHERE state = 'free') AS free,
    count(*) FILTER (WHERE state = 'leased') AS leased,
    count(*) FILTER (WHERE state = 'resting') AS resting,
    count(*) FILTER (WHERE state = 'dirty') AS dirty,
    count(*) FILTER (WHERE state = 'chore') AS chore,
    count(*) FILTER (WHERE state = 'held') AS held,
    count(*) FILTER (WHERE state = 'quarantined') AS quarantined,
    count(*) FILTER (WHERE state = 'retired') AS retired,
    extract(epoch FROM min(free_at) FILTER (WHERE free_at > now) - min(now))::float8 AS next_free_in"""
