"""The checker of a chaos run: whether all that the farm promises holds in what its clients saw and it kept.

It knows nothing of how the run was made. Each rule is a function of the history and of what the database kept.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from chaos.checker.acknowledged import HOLDERS_KNOW, NOTHING_LOST, holders_know, nothing_lost
from chaos.checker.answered import ANSWERED, answered
from chaos.checker.answers import AS_DOCUMENTED, as_documented
from chaos.checker.caps import CAPS_KEPT, caps_kept
from chaos.checker.ending import ALL_FREE, all_free
from chaos.checker.found_passwords import passwords_of
from chaos.checker.grants import FENCES_RISE, ONE_LEASE_FOR_A_KEY, fences_rise, one_lease_for_a_key
from chaos.checker.holding import NOBODY_TWICE, nobody_twice
from chaos.checker.kept import Kept, read_kept
from chaos.checker.late_grants import NO_LATE_GRANT, no_late_grant
from chaos.checker.passwords import PASSWORDS_KEPT, passwords_kept
from chaos.checker.pending import PENDING_KEPT, pending_kept
from chaos.checker.rewritten import LAST_PASSWORD, last_password
from chaos.checker.rollups import ROLLUPS_TRUE, rollups_true
from chaos.checker.seen import Seen
from chaos.checker.violations import Violation
from chaos.checker.waiting import IN_ORDER, waits_in_order
from chaos.history import History

Rule = Callable[[Seen, Kept], Iterator[Violation]]

RULES: Mapping[str, Rule] = {
    NOBODY_TWICE: nobody_twice,
    HOLDERS_KNOW: holders_know,
    FENCES_RISE: fences_rise,
    ONE_LEASE_FOR_A_KEY: one_lease_for_a_key,
    PENDING_KEPT: pending_kept,
    LAST_PASSWORD: last_password,
    AS_DOCUMENTED: as_documented,
    ANSWERED: answered,
}
OF_THE_DATABASE: Mapping[str, Rule] = {
    NOTHING_LOST: nothing_lost,
    IN_ORDER: waits_in_order,
    NO_LATE_GRANT: no_late_grant,
    CAPS_KEPT: caps_kept,
    ROLLUPS_TRUE: rollups_true,
    ALL_FREE: all_free,
}


@dataclass(frozen=True, slots=True)
class Findings:
    violations: list[Violation]
    compared: Mapping[str, int]
    """By rule, for all rules that were applied."""


def examine(history: History, kept: Kept | None, *, logs: Sequence[Path] = ()) -> Findings:
    """What was promised and did not hold, and how much was compared to find it.

    Without what the database kept, only what the answers alone show. The run ends long enough before: `kept` is read
    when all leases, rests and tickets are over, and rollups are made.
    """
    seen = Seen(history)
    rules = {**RULES, **OF_THE_DATABASE} if kept else RULES
    kept = kept or Kept(now=datetime.now(UTC))
    violations = [violation for rule in rules.values() for violation in rule(seen, kept)]
    violations += passwords_kept(seen, kept, passwords_of(history), logs)
    return Findings(violations, {rule: seen.compared[rule] for rule in (*rules, PASSWORDS_KEPT)})


def check(history: History, kept: Kept | None, *, logs: Sequence[Path] = ()) -> list[Violation]:
    """The violations alone."""
    return examine(history, kept, logs=logs).violations


__all__ = [
    "ALL_FREE",
    "ANSWERED",
    "AS_DOCUMENTED",
    "CAPS_KEPT",
    "FENCES_RISE",
    "HOLDERS_KNOW",
    "IN_ORDER",
    "LAST_PASSWORD",
    "NOBODY_TWICE",
    "NOTHING_LOST",
    "NO_LATE_GRANT",
    "OF_THE_DATABASE",
    "ONE_LEASE_FOR_A_KEY",
    "PASSWORDS_KEPT",
    "PENDING_KEPT",
    "ROLLUPS_TRUE",
    "RULES",
    "Findings",
    "Kept",
    "Violation",
    "check",
    "examine",
    "passwords_of",
    "read_kept",
]
