"""Whether a run did enough for what its checker says: a farm that grants nothing breaks no promise.

A rule that compared nothing has had an excuse for everything, and proves nothing. The minimums are a tenth, or less, of
what a minute on two busy cores compares, because faults come by chance: none of them misses by chance.
"""

from collections.abc import Iterator, Mapping

from chaos.checker.acknowledged import HOLDERS_KNOW, NOTHING_LOST
from chaos.checker.answers import AS_DOCUMENTED
from chaos.checker.caps import CAPS_KEPT
from chaos.checker.ending import ALL_FREE
from chaos.checker.passwords import PASSWORDS_KEPT
from chaos.checker.pending import PENDING_KEPT
from chaos.checker.rewritten import LAST_PASSWORD
from chaos.checker.rollups import ROLLUPS_TRUE
from chaos.plan import Plan

A_MINUTE = 60
"""Seconds. Of a shorter run nothing is demanded: most of it is the begin, or one fault."""
GRANTS = 40
"""A run grants several in each second in which its database is there."""
LEAST: Mapping[str, int] = {
    PASSWORDS_KEPT: 100,
    AS_DOCUMENTED: 100,
    PENDING_KEPT: 2,
    LAST_PASSWORD: 5,
    NOTHING_LOST: 50,
    ALL_FREE: 20,
}
"""By rule, of what it compares."""
WITHOUT_STEPS: Mapping[str, int] = {HOLDERS_KNOW: 20, CAPS_KEPT: 4, ROLLUPS_TRUE: 1}
"""Further ones, of a run whose clock is not stepped."""


def shortfalls(plan: Plan, grants: int, compared: Mapping[str, int]) -> Iterator[str]:
    """A line for each thing of which the run did too little."""
    if plan.seconds < A_MINUTE:
        return
    if grants < GRANTS:
        yield f"too little: {grants} grants, and a run has {GRANTS} at least"
    wanted = LEAST if plan.steps_clock else {**LEAST, **WITHOUT_STEPS}
    for rule, least in wanted.items():
        if compared[rule] < least:
            yield f"too little: the rule '{rule}' compared {compared[rule]}, and it should compare {least} at least"
