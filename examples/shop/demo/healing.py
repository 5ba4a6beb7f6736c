"""The same stream of test runs, which break accounts, in two projects: one without a keeper, and one with it."""

import re
import secrets
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal, Self

import httpx

from botfarm_client import Botfarm, Lease
from botfarm_client.errors import PoolExhaustedError
from demo.figures import Farm
from demo.processes import DemoError, started
from demo.stage import Stage

ACCOUNTS, RUNS, WORKERS = 8, 40, 12
CART_EVERY = 4
"""More carts than accounts: without a keeper some run gets none, whatever the order."""
PASSWORD_EVERY = 10
PASSWORDS = RUNS // PASSWORD_EVERY
LONG_WAIT, SHORT_WAIT = 60, 10
"""Seconds that a run waits for an account. Where nobody brings one back, a longer wait would only be longer."""
PATIENCE = 60
"""Seconds that the keeper has at the end."""
POLICY = ("--cleaning", "on_dirty")

End = Literal["passed", "could not sign in", "met a full cart", "got no account"]


@dataclass(frozen=True)
class Outcome:
    ends: Counter[End]
    in_service: Sequence[int]
    """Accounts that tests may have, after each run."""
    healed: int

    @property
    def runs_dry(self) -> bool:
        return self.ends["got no account"] > 0

    @property
    def stays_healthy(self) -> bool:
        """A new password that nobody told the farm is found by the run that fails by it."""
        failed = self.ends["could not sign in"]
        return (
            failed <= PASSWORDS and self.ends["passed"] + failed == RUNS and self.in_service[-1] == ACCOUNTS
        )


def both_projects(stage: Stage, accounts: Sequence[str]) -> tuple[Outcome, Outcome]:
    """Without a keeper, and with it, at the same time. Raises DemoError."""
    stage.add_project("unkept", accounts[:ACCOUNTS], *POLICY)
    stage.add_project("kept", accounts[ACCOUNTS:], *POLICY)
    of_keeper = {
        **stage.of_the_farm,
        "BOTFARM_TOKEN": stage.token_of_a_keeper("kept"),
        "BOTFARM_PROJECT": "kept",
        "BOTFARM_ENV": "stage",
        "SHOP_URL": stage.shop_url,
        "SHOP_SUPPORT_KEY": stage.support_key,
    }
    with (
        started(
            sys.executable, "-m", "keeper", output=stage.folder / "keeper.log", variables=of_keeper
        ) as keeper,
        Stream(stage, "unkept", wait=SHORT_WAIT) as unkept,
        Stream(stage, "kept", wait=LONG_WAIT) as kept,
    ):
        unkept.start()
        kept.start()
        kept.wait()
        kept.wait_until_clean()
        unkept.wait()
        return unkept.outcome(healed=0), kept.outcome(
            healed=len(re.findall(": ok$", keeper.output, re.MULTILINE))
        )


class Stream:
    """Runs of a project, on so many workers."""

    def __init__(self, stage: Stage, project: str, *, wait: float) -> None:
        self._shop_url = stage.shop_url
        self._farm = Botfarm(stage.farm_url, stage.token, project=project, env="stage", wait=wait)
        self._figures = Farm(stage.farm_url, stage.token, project=project)
        self._workers = ThreadPoolExecutor(WORKERS)
        self._runs: list[Future[End]] = []
        self._in_service: list[int] = []

    def start(self) -> None:
        self._runs = [self._workers.submit(self._run, number) for number in range(1, RUNS + 1)]

    def wait(self) -> None:
        """Raises what a run has raised."""
        for run in self._runs:
            run.result()

    def wait_until_clean(self) -> None:
        """Raises DemoError when no keeper does it."""
        deadline = time.monotonic() + PATIENCE
        while (in_service := self._now_in_service()) < ACCOUNTS:
            if time.monotonic() > deadline:
                raise DemoError(f"only {in_service} accounts are in service after {PATIENCE} s")
            time.sleep(0.1)
        self._in_service.append(in_service)

    def outcome(self, *, healed: int) -> Outcome:
        return Outcome(Counter(run.result() for run in self._runs), self._in_service, healed)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._workers.shutdown(wait=False, cancel_futures=True)
        self._farm.close()

    def _run(self, number: int) -> End:
        try:
            with self._farm.lease(owner=f"run-{number}") as lease:
                end = self._test(number, lease)
        except PoolExhaustedError:
            end = "got no account"
        self._in_service.append(self._now_in_service())
        return end

    def _test(self, number: int, lease: Lease) -> End:
        user = lease.user
        with httpx.Client(
            base_url=self._shop_url, timeout=30, trust_env=False, follow_redirects=True
        ) as shop:
            entered = shop.post("/sign-in", data={"login": user.login, "password": user.password})
            if entered.status_code == HTTPStatus.FORBIDDEN:
                lease.mark(user, "dirty", reason="credential_rejected", note="the shop rejects the password")
                return "could not sign in"
            end: End = "passed" if "is empty" in shop.get("/cart").text else "met a full cart"
            shop.post("/cart", data={"product": "tea"}).raise_for_status()
            if number % CART_EVERY == 0:
                lease.mark(user, "dirty", reason="data", note="the cart is full")
                return end
            shop.post("/orders").raise_for_status()
            if number % PASSWORD_EVERY == 1:
                shop.post(
                    "/account/password", data={"password": secrets.token_urlsafe(12)}
                ).raise_for_status()
            return end

    def _now_in_service(self) -> int:
        pool = self._figures.pool()
        return int(pool["free"] + pool["leased"] + pool["resting"])
