"""Draws the faults of a plan. They come in lanes: one after the other within a lane, which go on beside each other."""

from collections.abc import Iterator
from random import Random

from chaos.history import CLOCK_STEP
from chaos.plan import CLOCK_LANE, PROCESSES, PlannedFault

# Each kind with its weight, its targets, and how many seconds it lasts.
Kinds = dict[str, tuple[int, tuple[str, ...], tuple[float, float]]]
LANES: dict[str, tuple[Kinds, float]] = {
    "processes": (
        {
            "kill": (4, PROCESSES, (0.1, 2)),
            "terminate": (2, PROCESSES, (0.1, 1)),
            "pause": (3, PROCESSES, (0.5, 7)),
        },
        4.0,
    ),
    "network": (
        {
            "cut": (3, PROCESSES, (0.2, 2)),
            "delay": (3, PROCESSES, (1, 4)),
            "silence": (3, PROCESSES, (0.5, 4)),
            "lose_answers": (3, PROCESSES, (0.2, 3)),
        },
        5.0,
    ),
    # A killed process whose host is gone, too: the database does not learn that it has hung up.
    "hosts": ({"vanish": (1, PROCESSES, (5, 15))}, 15.0),
    "database": (
        {
            "crash": (3, ("database",), (0.1, 1.5)),
            "restart": (2, ("database",), (0.1, 0.5)),
            "promote": (2, ("database",), (0.1, 1)),
        },
        20.0,
    ),
    "sessions": (
        {
            "end_sessions": (1, ("database",), (0, 0)),
            "lock_users": (2, ("database",), (0.2, 4)),
            "lock_tables": (1, ("database",), (0.2, 3)),
        },
        8.0,
    ),
    "operations": ({"upgrade": (1, ("farm",), (0, 0)), "rotate_keys": (1, ("farm",), (0, 0))}, 20.0),
}
STEPS_OF_CLOCK = (-8.0, -3.0, 0.5, 3.0, 8.0)
SHARE_WITH_STEPS = 0.5
"""Of the seeds. About a run with steps of the clock the checker can say less."""
BETWEEN_STEPS = (30.0, 40.0)
"""Seconds. Of what is around a step the checker can say less, so that there must be a time between two."""

QUIET_AFTER = (25.0, 40.0)
"""Seconds of each minute after which no fault begins for a while: then the checker can say most about the queue."""
QUIET_FOR = 15.0
LASTING = {"upgrade": 10.0, "rotate_keys": 15.0}
"""Seconds that operations may go on, which take as long as they take."""


def draw_faults(seed: int, seconds: float) -> dict[str, list[PlannedFault]]:
    """By lane."""
    quiet = _quiet_stretches(Random(f"{seed} quiet"), seconds)
    faults = {
        lane: list(_faults(Random(f"{seed} {lane}"), kinds, mean_gap, seconds, quiet))
        for lane, (kinds, mean_gap) in LANES.items()
    }
    clock = Random(f"{seed} {CLOCK_LANE}")
    if clock.random() < SHARE_WITH_STEPS:
        faults[CLOCK_LANE] = list(_steps_of_clock(clock, seconds, quiet))
    return faults


def _quiet_stretches(dice: Random, seconds: float) -> list[float]:
    """When each begins, one in each minute."""
    return [minute + dice.uniform(*QUIET_AFTER) for minute in range(0, int(seconds), 60)]


def _faults(
    dice: Random, kinds: Kinds, mean_gap: float, seconds: float, quiet: list[float]
) -> Iterator[PlannedFault]:
    at = dice.uniform(0.5, 1.0) * mean_gap
    while at < seconds:
        kind = dice.choices(list(kinds), [weight for weight, _, _ in kinds.values()])[0]
        _, targets, (shortest, longest) = kinds[kind]
        lasts = round(dice.uniform(shortest, longest), 2)
        target = dice.choice(targets)
        while until := _quiet_until(at, at + LASTING.get(kind, lasts), quiet):
            at = until + dice.uniform(0, mean_gap)
        if at < seconds:
            yield PlannedFault(round(at, 2), kind, target, lasts)
        at += lasts + dice.uniform(0.5, 1.5) * mean_gap


def _steps_of_clock(dice: Random, seconds: float, quiet: list[float]) -> Iterator[PlannedFault]:
    at = dice.uniform(5, 10)
    while at < seconds:
        yield PlannedFault(round(at, 2), CLOCK_STEP, "database", dice.choice(STEPS_OF_CLOCK))
        at += dice.uniform(*BETWEEN_STEPS)
        at = _quiet_until(at, at, quiet) or at


def _quiet_until(begins: float, ends: float, quiet: list[float]) -> float | None:
    """When the quiet stretch is over in which something would go on that begins and ends so."""
    meets = (since + QUIET_FOR for since in quiet if begins < since + QUIET_FOR and ends > since)
    return next(meets, None)
