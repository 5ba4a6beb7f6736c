"""The farm that a chaos run starts with: projects, pools, their users, and the tokens of its clients."""

from dataclasses import dataclass
from typing import Any

from botfarm.crypto.key_ring import generate_key
from chaos.history import CANARY as PASSWORD

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pool:
    project: str
    env: str
    domain: str
    users: int

    @property
    def body(self) -> Json:
        return {"project": self.project, "env": self.env, "domain": self.domain}

    def login(self, number: int) -> str:
        return f"{self.domain}-{number}@{self.project}.test"


SHOP = Pool("shop", "stage", "regular", 10)
CANARY = Pool("shop", "stage", "canary", 4)
BANK = Pool("bank", "stage", "regular", 6)
POOLS = (SHOP, CANARY, BANK)

# Times are short, so that a lease that nobody ends is over within seconds.
POLICIES: dict[str, Json] = {
    "shop": {"default_ttl": 4, "max_ttl": 8, "max_hold": 20, "lock_delay": 1, "cleaning": "on_dirty"},
    "bank": {
        "default_ttl": 4,
        "max_ttl": 8,
        "max_hold": 20,
        "lock_delay": 1,
        "cleaning": "required",
        "clean_attempts": 10,
        "rotate_every": 10,
    },
}
PLANS = ("free", "paid", "trial")
"""Values of the users' label `plan`, in turn."""


@dataclass(frozen=True, slots=True)
class Token:
    name: str
    role: str
    max_leases: int | None = None


# Many runners share a token, as the jobs of one CI do.
TOKENS = (
    Token("ci", "runner"),
    Token("nightly", "runner", 5),
    Token("keeper", "keeper"),
    Token("lead", "manager"),
)


ENCRYPTION_KEYS = generate_key("k1")


def users() -> list[Json]:
    """As lines of an import; the project's name is still in the place of its id."""
    return [
        {
            "login": pool.login(number),
            "password": f"{PASSWORD}-{pool.project}-{pool.domain}-{number}",
            "project_id": pool.project,
            "env": pool.env,
            "domain": pool.domain,
            "labels": {"plan": PLANS[number % len(PLANS)]},
        }
        for pool in POOLS
        for number in range(pool.users)
    ]
