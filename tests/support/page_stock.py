"""A farm with something of everything that its page shows, and an operator of each role."""

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from botfarm.domain.access import Role
from botfarm.runtime.services import open_services
from support.farm import PASSWORD, test_settings
from support.live_farm import LiveFarm, farm_at, serving
from support.processes import Process

JOB_URL = "https://ci.test/acme/shop/runs/4711"
OWNER = "github acme/shop e2e #4711"
STATES = ("free", "leased", "resting", "dirty", "chore", "held", "quarantined", "retired")
ROLES = tuple(str(role) for role in Role)
SCOPED = "scoped"
"""A manager of one project, `bank`."""

Json = dict[str, Any]


@dataclass(frozen=True)
class PageFarm:
    database_url: str
    live: LiveFarm
    users: dict[str, str]
    """The id of the user of the project `shop` in each state."""
    lease_id: str
    """Of the user that is leased."""
    hold_id: str
    """The lease of the user that the operator `manager` holds."""
    _cookies: dict[tuple[str, str], Json] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.live.url

    async def cookie(self, operator: str, url: str) -> Json:
        """The session of an operator, as a browser keeps it. The first call signs the operator in."""
        if (operator, url) not in self._cookies:
            self._cookies[operator, url] = await sign_in(url, operator)
        return self._cookies[operator, url]


async def sign_in(url: str, operator: str) -> Json:
    async with httpx.AsyncClient(base_url=url, timeout=30, verify=False) as http:
        answer = await http.post("/api/v1/auth/login", json={"name": operator, "password": PASSWORD})
    [(name, value)] = answer.raise_for_status().cookies.items()
    return {"name": name, "value": value, "url": url, "httpOnly": True, "sameSite": "Strict"}


@contextmanager
def page_farm(database_url: str) -> Iterator[PageFarm]:
    with serving_pages(database_url) as (_, url), farm_at(url) as live:
        users, lease_id = _stock(live)
        asyncio.run(add_operators(database_url))
        session = asyncio.run(sign_in(url, "manager"))
        yield PageFarm(database_url, live, users, lease_id, _hold(url, session, users["held"]))


def serving_pages(database_url: str, *, port: int = 0) -> AbstractContextManager[tuple[Process, str]]:
    """On plain http, where browsers keep the cookie only because of the setting."""
    return serving(database_url, port=port, BOTFARM_COOKIE_INSECURE="true")


async def add_operators(database_url: str) -> None:
    """Each named as its role."""
    async with open_services(test_settings(database_url), "test", in_background=True) as services:
        for name, role, project in [
            *((role, Role(role), "*") for role in ROLES),
            (SCOPED, Role.MANAGER, "bank"),
        ]:
            scope = await services.operators.scope_of([project], ["*"])
            await services.operators.add(name, PASSWORD, role, scope)


def _stock(live: LiveFarm) -> tuple[dict[str, str], str]:
    """One user in each state, a pool in which everybody is taken, and another project."""
    post = live._post
    shop = post("/projects", {"name": "shop", "cleaning": "on_dirty", "lock_delay": 3_600})["id"]
    bank = post("/projects", {"name": "bank", "lock_delay": 0})["id"]
    users = {
        state: live.user(shop, login=f"{state}@shop.test", labels={"seat": state, "language": "en"})["id"]
        for state in STATES
    }
    for number in range(3):
        live.user(bank, login=f"teller-{number}@bank.test", env="prod")
    live.user(shop, login="taken@shop.test", domain="canary")
    take(live, domain="canary")

    for verdict in (
        {"outcome": "ok"},
        {"outcome": "broken", "reason": "captcha", "note": "after the second try"},
    ):
        lease = take(live, "leased")
        post(f"/leases/{lease['id']}/release", verdict)
    live.force_release(take(live, "resting")["id"])
    for state in ("dirty", "chore"):
        post(f"/leases/{take(live, state)['id']}/release", {"outcome": "dirty", "reason": "data"})
    take(live, "chore", purpose="chore")
    post(f"/users/{users['quarantined']}/quarantine", {"reason": "the bank has locked it"})
    post(f"/users/{users['retired']}/retire", {"reason": "its phone number is gone"})
    post("/tokens", {"name": "shop-ci", "role": "runner", "projects": ["shop"], "envs": ["stage"]})
    rule = {
        "name": "shop-nightly",
        "issuer": "https://gitlab.com",
        "claims": {"project_id": "20", "ref": "main"},
    }
    post(
        "/trust-rules",
        {**rule, "projects": ["shop"], "envs": ["stage"], "max_leases": 2, "max_leases_of_all": 8},
    )
    return users, take(live, "leased")["id"]


def _hold(url: str, session: Json, user_id: str) -> str:
    """By an operator. Returns the id of the lease."""
    cookies = {session["name"]: session["value"]}
    body = {"purpose": "hold", "user_id": user_id, "note": "I look into SHOP-17"}
    held = httpx.post(f"{url}/api/v1/leases", json=body, cookies=cookies, timeout=30, verify=False)
    return str(held.raise_for_status().json()["id"])


def take(live: LiveFarm, seat: str | None = None, **wanted: Any) -> Json:
    labels = {"labels": {"seat": seat}} if seat else {}
    holder = {"owner": OWNER, "metadata": {"job_url": JOB_URL, "branch": "main"}}
    return live.take("shop", **holder, **labels, **{"ttl_seconds": 3_600, **wanted})
