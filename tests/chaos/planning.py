"""Draws a plan: the seed decides all of it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any, TypeVar

from chaos.fault_lanes import draw_faults
from chaos.plan import REPLICAS, KeeperStep, PersonStep, Plan, RunnerStep
from chaos.stock import BANK, CANARY, PLANS, POOLS, SHOP

Json = dict[str, Any]
Step = TypeVar("Step", RunnerStep, KeeperStep, PersonStep)

RUNNERS, KEEPERS, LEADS, ADMINISTRATORS, READERS = 40, 8, 3, 1, 2
ALL_THERE_WITHIN = 5.0
"""Seconds after the start in which the clients come."""
LONGEST_SCRIPT = 400
"""Steps of a client. At the end of its script it begins again, so that a plan of an hour stays small."""

REASONS = ("credential_rejected", "captcha", "rate_limited", "environment", "other")
LEAD_DEEDS = {
    "quarantine": 4,
    "restore": 10,
    "restore_all": 6,
    "label_all": 4,
    "new_password": 4,
    "hold": 6,
    "lock": 6,
    "force_release": 6,
    "import_users": 3,
    "delete_imported": 3,
    "read_lists": 8,
}
ADMIN_DEEDS = {"change_policy": 5, "apply_file": 4, "revoke_token": 2, "statistics": 3}
PAGE_DEEDS = {
    "pools": 6,
    "users": 3,
    "leases": 3,
    "waiting": 2,
    "audit": 2,
    "capacity": 1,
    "access": 1,
    "quarantine": 1,
    "restore": 2,
    "force_release": 2,
}
POLICY_CHANGES: tuple[Json, ...] = (
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
    # More often than on, because keepers cannot follow all runners.
    *[{"rotate_on_release": False}] * 4,
)


def make_plan(seed: int, seconds: float) -> Plan:
    """Each client and lane draws from a generator of its own, so that one more client changes no other."""
    steps = min(LONGEST_SCRIPT, int(seconds * 2) + 1)

    def scripts(kind: str, count: int, draw: Callable[[Random], Step]) -> dict[str, list[Step]]:
        names = [f"{kind}-{number}" for number in range(1, count + 1)]
        return {name: _script(Random(f"{seed} {name}"), draw, steps) for name in names}

    return Plan(
        seed,
        seconds,
        runners=scripts("runner", RUNNERS, _runner_step),
        keepers=scripts("keeper", KEEPERS, _keeper_step),
        leads=scripts("lead", LEADS, partial(_person_step, LEAD_DEEDS)),
        administrators=scripts("administrator", ADMINISTRATORS, partial(_person_step, ADMIN_DEEDS)),
        readers=scripts("reader", READERS, partial(_person_step, PAGE_DEEDS)),
        faults=draw_faults(seed, seconds),
    )


def _script(dice: Random, draw: Callable[[Random], Step], steps: int) -> list[Step]:
    """The clients come one after the other, because processes that have just started are slow."""
    first, *others = (draw(dice) for _ in range(steps))
    return [replace(first, pause=round(dice.uniform(0, ALL_THERE_WITHIN), 3)), *others]


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
        wanted["wait_seconds"] = dice.choice((1, 6, 10, 10))
    if dice.random() < 0.15:
        wanted["priority"] = dice.choice((-1, 1, 10))
    has_key = dice.random() < 0.6
    works, renewals = _seconds(dice, 0.5), dice.choice((0, 0, 1, 2))
    if dice.random() < 0.1:  # beyond the first TTL, with a renewal at each third of it
        works = round(ttl * dice.uniform(1, 3), 3)
        renewals = int(works / ttl * 3)
    return RunnerStep(
        pause=_seconds(dice, 0.3),
        wanted=wanted,
        has_key=has_key,
        asks_twice=has_key and dice.random() < 0.25,
        insists=has_key and dice.random() < 0.2,
        hangs_up_after=_seconds(dice, 0.5) if dice.random() < 0.12 else None,
        attempts=4 if has_key else 1,
        works=works,
        renewals=renewals,
        verdict=_verdict(dice) if dice.random() < 0.92 else None,
        says_of_one=_verdict(dice) if dice.random() < 0.15 else None,
        replica=dice.randrange(len(REPLICAS)),
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
        pause=_seconds(dice, 0.2),
        wanted={
            **pool.body,
            "purpose": "chore",
            "count": dice.choice((1, 1, 2, 3)),
            "ttl_seconds": dice.choice((3, 6)),
            "wait_seconds": dice.choice((0, 2, 5)),
        },
        works=_seconds(dice, 0.2),
        rotates=rotates,
        confirms=dice.random() < 0.7,
        writes_back=dice.random() < 0.2,
        verdict={"outcome": dice.choices(("ok", "dirty", "broken"), (16, 2, 1))[0]}
        if dice.random() < 0.9
        else None,
        replica=dice.randrange(len(REPLICAS)),
    )


def _person_step(actions: Mapping[str, int], dice: Random) -> PersonStep:
    """Draws one of the actions, each of which has its weight."""
    return PersonStep(
        pause=_seconds(dice, 0.8),
        action=dice.choices(list(actions), list(actions.values()))[0],
        which=dice.randrange(1_000),
        change=dict(dice.choice(POLICY_CHANGES)),
        replica=dice.randrange(len(REPLICAS)),
    )


def _seconds(dice: Random, mean: float) -> float:
    """Mostly short, sometimes long."""
    return round(min(dice.expovariate(1 / mean), 10 * mean), 3)
