"""Whether a run did enough for what its checker says: a farm that grants nothing breaks no promise.

A rule that compared nothing has had an excuse for everything, and proves nothing. So each rule has a minimum for each
minute. It is far below what a minute compared on two cores that had work for ten, so that no run misses it because it
is slow.
"""

from collections.abc import Iterator, Mapping

from chaos.checker import (
    ALL_FREE,
    ANSWERED,
    AS_DOCUMENTED,
    CAPS_KEPT,
    FENCES_RISE,
    HOLDERS_KNOW,
    IN_ORDER,
    LAST_PASSWORD,
    NO_LATE_GRANT,
    NOBODY_TWICE,
    NOTHING_LOST,
    ONE_LEASE_FOR_A_KEY,
    PASSWORDS_KEPT,
    PENDING_KEPT,
    ROLLUPS_TRUE,
)
from chaos.plan import Plan

A_MINUTE = 60
"""Seconds. Of a shorter run nothing is demanded: it may be little more than its begin and one fault."""
GRANTS = 40
"""For each minute. A run grants that many in the twenty seconds of its begin."""
LEAST: Mapping[str, float] = {
    NOBODY_TWICE: 40,
    HOLDERS_KNOW: 20,
    FENCES_RISE: 40,
    ONE_LEASE_FOR_A_KEY: 5,
    PENDING_KEPT: 10,
    LAST_PASSWORD: 40,
    AS_DOCUMENTED: 100,
    ANSWERED: 40,
    NOTHING_LOST: 40,
    IN_ORDER: 0.2,
    NO_LATE_GRANT: 40,
    CAPS_KEPT: 4,
    ROLLUPS_TRUE: 1,
    ALL_FREE: 20,
    PASSWORDS_KEPT: 100,
}
"""By rule, of what it compares in each minute. Of waits in order a minute on a busy machine compares hardly one."""
OF_THE_END = frozenset({ROLLUPS_TRUE, ALL_FREE})
"""Rules that compare what is there at the end, however long the run was."""
NOT_WITH_STEPS = frozenset({HOLDERS_KNOW, IN_ORDER, NO_LATE_GRANT, CAPS_KEPT, ROLLUPS_TRUE})
"""Rules that leave out most of a run, or all of it, in which the clock of the database is stepped."""


def shortfalls(plan: Plan, grants: int, compared: Mapping[str, int]) -> Iterator[str]:
    """A line for each thing of which the run did too little."""
    if plan.seconds < A_MINUTE:
        return
    minutes = int(plan.seconds // A_MINUTE)
    if grants < GRANTS * minutes:
        yield f"too little: {grants} grants, and a run of this length has {GRANTS * minutes} at least"
    for rule, of_a_minute in LEAST.items():
        least = int(of_a_minute * (1 if rule in OF_THE_END else minutes))
        if compared[rule] < least and not (plan.steps_clock and rule in NOT_WITH_STEPS):
            yield f"too little: the rule '{rule}' compared {compared[rule]}, and it should compare {least} at least"
