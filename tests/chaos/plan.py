"""What each client does and when each fault comes: data that a seed decides before anything starts."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from chaos.history import CLOCK_STEP
from chaos.stock import BANK, CANARY, PLANS, POOLS, SHOP

Json = dict[str, Any]

RUNNERS, KEEPERS, PEOPLE, READERS = 32, 4, 2, 1
REPLICAS = 3
LONGEST_SCRIPT = 400
"""Steps of a client. At the end of its script it begins again, so that a plan of an hour stays small."""

REASONS = ("credential_rejected", "captcha", "rate_limited", "environment", "other")


@dataclass(frozen=True, slots=True)
class RunnerStep:
    """An acquire, some work, and an end."""

    pause: float
    """Seconds before it."""
    wanted: Json
    """The body of the acquire."""
    has_key: bool
    hangs_up_after: float | None
    attempts: int
    """At most so many acquires, each at the next replica; more than one only with a key."""
    works: float
    """Seconds."""
    renewals: int
    verdict: Json | None
    """The body of the release; None: the runner dies."""
    replica: int
    """The number of the first replica that it asks."""


@dataclass(frozen=True, slots=True)
class KeeperStep:
    pause: float
    wanted: Json
    works: float
    rotates: bool
    confirms: bool
    """Without it a rotation is left half-way."""
    writes_back: bool
    verdict: Json | None
    replica: int


@dataclass(frozen=True, slots=True)
class PersonStep:
    """Of a person: by the API or, of a reader, by the page."""

    pause: float
    action: str
    which: int
    """Of the users or leases that the person finds: its number in their list, which goes round."""
    change: Json
    replica: int


@dataclass(frozen=True, slots=True)
class PlannedFault:
    at: float
    """Seconds after the start, at the earliest: the faults of one lane come one after the other."""
    kind: str
    target: str
    seconds: float = 0.0
    """How long it lasts. Of the clock: how far it is stepped, back if negative."""


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    seconds: float
    runners: dict[str, list[RunnerStep]]
    keepers: dict[str, list[KeeperStep]]
    people: dict[str, list[PersonStep]]
    readers: dict[str, list[PersonStep]]
    faults: dict[str, list[PlannedFault]]
    """By lane. The lanes go on beside each other."""

    @property
    def steps_clock(self) -> bool:
        return CLOCK_LANE in self.faults


def make_plan(seed: int, seconds: float) -> Plan:
    """Each client and lane draws from a generator of its own, so that one more client changes no other."""

    def names(kind: str, count: int) -> Iterator[tuple[str, Random]]:
        for number in range(1, count + 1):
            yield f"{kind}-{number}", Random(f"{seed} {kind} {number}")

    faults = {
        lane: list(_faults(Random(f"{seed} {lane}"), kinds, mean_gap, seconds))
        for lane, (kinds, mean_gap) in LANES.items()
    }
    clock = Random(f"{seed} {CLOCK_LANE}")
    if clock.random() < SHARE_WITH_STEPS:
        faults[CLOCK_LANE] = list(_steps_of_clock(clock, seconds))
    steps = min(LONGEST_SCRIPT, int(seconds * 2) + 1)
    return Plan(
        seed,
        seconds,
        {name: [_runner_step(dice) for _ in range(steps)] for name, dice in names("runner", RUNNERS)},
        {name: [_keeper_step(dice) for _ in range(steps)] for name, dice in names("keeper", KEEPERS)},
        {name: [_person_step(dice, DEEDS) for _ in range(steps)] for name, dice in names("person", PEOPLE)},
        {
            name: [_person_step(dice, PAGE_DEEDS) for _ in range(steps)]
            for name, dice in names("reader", READERS)
        },
        faults,
    )


def _runner_step(dice: Random) -> RunnerStep:
    pool = dice.choices(POOLS, (6, 2, 3))[0]
    ttl = dice.choice((2, 3, 5, 8))
    wanted: Json = {**pool.body, "ttl_seconds": ttl}
    match dice.randrange(10):
        case 0 | 1:
            wanted["count"] = dice.randint(2, 4)
        case 2:
            wanted["labels"] = {"plan": dice.choice(PLANS)}
        case 3:
            wanted["labels"] = {"plan": dice.sample(PLANS, 2)}
        case 4:
            del wanted["domain"]
            wanted["user"] = pool.login(dice.randrange(pool.users))
        case _:
            pass
    if dice.random() < 0.75:
        wanted["wait_seconds"] = dice.choice((1, 3, 6, 10))
    if dice.random() < 0.15:
        wanted["priority"] = dice.choice((-1, 1, 10))
    has_key = dice.random() < 0.6
    works, renewals = _seconds(dice, 0.8), dice.choice((0, 0, 1, 2))
    if dice.random() < 0.2:  # beyond the first TTL, with a renewal at each third of it
        works = round(ttl * dice.uniform(1, 3), 3)
        renewals = int(works / ttl * 3)
    return RunnerStep(
        pause=_seconds(dice, 0.4),
        wanted=wanted,
        has_key=has_key,
        hangs_up_after=_seconds(dice, 0.5) if dice.random() < 0.12 else None,
        attempts=4 if has_key else 1,
        works=works,
        renewals=renewals,
        verdict=_verdict(dice) if dice.random() < 0.88 else None,
        replica=dice.randrange(REPLICAS),
    )


def _verdict(dice: Random) -> Json:
    match dice.randrange(20):
        case 0:
            return {"outcome": "broken", "reason": dice.choice(REASONS), "note": "it did not let me in"}
        case 1 | 2:
            return {"outcome": "dirty"}
        case 3 | 4:
            return {}
        case _:
            return {"outcome": "ok"}


def _keeper_step(dice: Random) -> KeeperStep:
    pool = dice.choices((SHOP, CANARY, BANK), (3, 1, 3))[0]
    rotates = dice.random() < 0.4
    return KeeperStep(
        pause=_seconds(dice, 0.4),
        wanted={
            **pool.body,
            "purpose": "chore",
            "count": dice.choice((1, 1, 2)),
            "ttl_seconds": dice.choice((3, 6)),
            "wait_seconds": dice.choice((0, 2, 5)),
        },
        works=_seconds(dice, 0.3),
        rotates=rotates,
        confirms=dice.random() < 0.7,
        writes_back=dice.random() < 0.2,
        verdict={"outcome": dice.choices(("ok", "dirty", "broken"), (16, 2, 1))[0]}
        if dice.random() < 0.9
        else None,
        replica=dice.randrange(REPLICAS),
    )


DEEDS = {
    "quarantine": 4,
    "restore": 10,
    "restore_all": 6,
    "label_all": 4,
    "hold": 6,
    "lock": 6,
    "force_release": 6,
    "import_users": 3,
    "delete_imported": 3,
    "change_policy": 4,
    "read_lists": 8,
}
PAGE_DEEDS = {
    "board": 6,
    "users": 3,
    "leases": 3,
    "waiting": 2,
    "quarantine": 1,
    "restore": 2,
    "force_release": 2,
}
POLICY_CHANGES = (
    {"lock_delay": 0},
    {"lock_delay": 2},
    {"cooldown": 0},
    {"cooldown": 1},
    {"quarantine_share": 0.2},
    {"quarantine_after": 1},
    {"quarantine_after": 3},
    {"cleaning": "on_dirty"},
    {"cleaning": "required"},
    {"max_ttl": 5},
    {"max_ttl": 8},
    {"rotate_on_release": True},
    {"rotate_on_release": False},
)


def _person_step(dice: Random, actions: dict[str, int]) -> PersonStep:
    return PersonStep(
        pause=_seconds(dice, 0.8),
        action=dice.choices(list(actions), list(actions.values()))[0],
        which=dice.randrange(1_000),
        change=dict(dice.choice(POLICY_CHANGES)),
        replica=dice.randrange(REPLICAS),
    )


API_PROCESSES = tuple(f"replica-{number}" for number in range(1, REPLICAS + 1))
PROCESSES = (*API_PROCESSES, "worker")
# Each kind with its weight, its targets, and how many seconds it lasts.
Kinds = dict[str, tuple[int, tuple[str, ...], tuple[float, float]]]
LANES: dict[str, tuple[Kinds, float]] = {
    "processes": (
        {
            "kill": (4, PROCESSES, (0.1, 2)),
            "terminate": (2, PROCESSES, (0.1, 1)),
            "pause": (3, PROCESSES, (0.5, 7)),
        },
        3.0,
    ),
    "network": (
        {
            "cut": (3, PROCESSES, (0.2, 2)),
            "delay": (3, PROCESSES, (1, 4)),
            "silence": (3, PROCESSES, (0.5, 4)),
            "lose_answers": (3, PROCESSES, (0.2, 3)),
        },
        4.0,
    ),
    "database": (
        {
            "crash": (3, ("database",), (0.1, 1.5)),
            "restart": (2, ("database",), (0.1, 0.5)),
            "promote": (2, ("database",), (0.1, 1)),
        },
        15.0,
    ),
    "operations": ({"upgrade": (1, ("farm",), (0, 0)), "rotate_keys": (1, ("farm",), (0, 0))}, 20.0),
}
CLOCK_LANE = "clock"
STEPS_OF_CLOCK = (-8.0, -3.0, 0.5, 3.0, 8.0)
SHARE_WITH_STEPS = 0.5
"""Of the seeds. About a run with steps of the clock the checker can say less."""


def _faults(dice: Random, kinds: Kinds, mean_gap: float, seconds: float) -> Iterator[PlannedFault]:
    at = dice.uniform(0.5, 1.0) * mean_gap
    while at < seconds:
        kind = dice.choices(list(kinds), [weight for weight, _, _ in kinds.values()])[0]
        _, targets, (shortest, longest) = kinds[kind]
        lasts = round(dice.uniform(shortest, longest), 2)
        yield PlannedFault(round(at, 2), kind, dice.choice(targets), lasts)
        at += lasts + dice.uniform(0.5, 1.5) * mean_gap


def _steps_of_clock(dice: Random, seconds: float) -> Iterator[PlannedFault]:
    at = dice.uniform(5, 15)
    while at < seconds:
        yield PlannedFault(round(at, 2), CLOCK_STEP, "database", dice.choice(STEPS_OF_CLOCK))
        at += dice.uniform(10, 25)


def _seconds(dice: Random, mean: float) -> float:
    """Mostly short, sometimes long."""
    return round(min(dice.expovariate(1 / mean), 10 * mean), 3)
