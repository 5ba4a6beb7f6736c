"""The keeper of examples/shop, which teams copy, on a real farm and the shop."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from botfarm_client import Lease
from support.farm import PASSWORD
from support.live_farm import LiveFarm, LiveProject, free_port, live_farm
from support.processes import CHECKOUT, running

EXAMPLES = CHECKOUT / "examples/shop"
SUPPORT_KEY = "of the support desk"


@pytest.fixture(scope="module")
def farm(postgres_url: str, template: str) -> Iterator[LiveFarm]:
    with live_farm(postgres_url, template) as opened:
        yield opened


@dataclass(frozen=True)
class Shop:
    url: str

    def set_password(self, login: str, password: str) -> None:
        path, headers = f"/support/accounts/{login}/password", {"X-Support-Key": SUPPORT_KEY}
        self._post(path, headers=headers, data={"password": password}).raise_for_status()

    def session(self, login: str, password: str) -> dict[str, str] | None:
        """Its cookie, if the shop takes the password."""
        answer = self._post("/sign-in", data={"login": login, "password": password})
        return dict(answer.cookies) or None

    def fill_cart(self, session: dict[str, str]) -> None:
        self._post("/cart", cookies=session, data={"product": "tea"})

    def see(self, path: str, session: dict[str, str]) -> str:
        return httpx.get(f"{self.url}{path}", cookies=session).text

    def _post(self, path: str, **request: Any) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", **request)


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    environment = {"SHOP_SUPPORT_KEY": SUPPORT_KEY}
    with running(
        sys.executable, "-m", "shop", "--port", "0", environment=environment, cwd=EXAMPLES
    ) as process:
        yield Shop(process.wait_for(r"open: (\S+)")[1])


@dataclass(frozen=True)
class Kept:
    """A project with one user, whose account is in the shop, and a keeper that comes when it is called."""

    project: LiveProject
    shop: Shop

    @property
    def login(self) -> str:
        return f"u0@{self.project.name}.test"

    def user(self) -> dict[str, Any]:
        (user,) = self.project.live.get("/users", login=self.login)["items"]
        return dict(user)

    def keep(self, *, shop_url: str = "", support_key: str = "") -> str:
        environment = {
            **self.project.environment(),
            "SHOP_URL": shop_url or self.shop.url,
            "SHOP_SUPPORT_KEY": support_key,
        }
        with running(
            sys.executable, "-m", "keeper", "--once", environment=environment, cwd=EXAMPLES
        ) as keeper:
            assert keeper.wait(seconds=60) == 0, keeper.output
            return keeper.output

    def use(self, lease: Lease) -> dict[str, str]:
        """The shop's session of the user."""
        session = self.shop.session(self.login, lease.user.password)
        assert session, "the shop takes the farm's password"
        return session


def kept(farm: LiveFarm, shop: Shop, **policy: Any) -> Kept:
    kept = Kept(LiveProject(farm, farm.project(1, **policy)), shop)
    shop.set_password(kept.login, PASSWORD)
    return kept


def test_it_empties_the_cart_that_a_test_has_left(farm: LiveFarm, shop: Shop) -> None:
    it = kept(farm, shop, cleaning="on_dirty")
    with it.project.farm() as tests:
        with tests.lease() as lease:
            it.shop.fill_cart(it.use(lease))
            lease.mark(lease.user, "dirty", reason="data")
        assert "(clean): ok" in it.keep()
        with tests.lease() as lease:
            assert "Your cart is empty" in shop.see("/cart", it.use(lease))


def test_a_password_that_the_shop_rejects_goes_to_the_people(farm: LiveFarm, shop: Shop) -> None:
    it = kept(farm, shop, check_every=3_600)
    shop.set_password(it.login, "changed by a test")
    it.keep()
    user = it.user()
    assert (user["state"], user["health"]) == ("quarantined", "failing")
    assert user["status_reason"] == "credential_rejected"


def test_with_the_key_of_the_support_desk_it_sets_a_new_one(farm: LiveFarm, shop: Shop) -> None:
    it = kept(farm, shop, check_every=3_600)
    shop.set_password(it.login, "changed by a test")
    it.keep(support_key=SUPPORT_KEY)
    assert (it.user()["state"], it.user()["health"]) == ("free", "ok")
    with it.project.farm() as tests, tests.lease() as lease:
        it.use(lease)
        assert lease.user.password != PASSWORD


def test_the_password_changes_after_every_test(farm: LiveFarm, shop: Shop) -> None:
    it = kept(farm, shop, rotate_on_release=True)
    with it.project.farm() as tests:
        with tests.lease() as lease:
            it.use(lease)
        it.keep()
        assert shop.session(it.login, PASSWORD) is None
        with tests.lease(wait=30) as lease:
            it.use(lease)


@pytest.mark.parametrize("is_set", [False, True], ids=["before the shop had it", "before it was confirmed"])
def test_it_ends_what_a_killed_keeper_has_begun(farm: LiveFarm, shop: Shop, *, is_set: bool) -> None:
    it = kept(farm, shop, check_every=3_600)
    with it.project.farm() as keeper:
        lease = keeper.acquire(purpose="chore")
        pending = lease.start_rotation()
        if is_set:
            shop.set_password(it.login, pending)
        lease.release("dirty")
    it.keep()
    with it.project.farm() as tests, tests.lease() as lease:
        assert lease.user.password == pending
        it.use(lease)


def test_it_keeps_a_session_warm(farm: LiveFarm, shop: Shop) -> None:
    it = kept(farm, shop, session_refresh=3_600)
    with it.project.farm() as tests:
        with tests.lease() as lease:
            soon = datetime.now(UTC) + timedelta(minutes=1)
            lease.write_back(secrets={"storage_state": {"cookies": []}}, session_expires_at=soon)
        assert "(session): ok" in it.keep()
        with tests.lease() as lease:
            (cookie,) = lease.user.secrets["storage_state"]["cookies"]
            assert it.login in shop.see("/account", {cookie["name"]: cookie["value"]})
        assert it.keep() == "", "nothing is due any more"


def test_a_shop_that_is_away_is_not_the_users_fault(farm: LiveFarm, shop: Shop) -> None:
    it = kept(farm, shop, check_every=3_600)
    assert "environment" in it.keep(shop_url=f"http://127.0.0.1:{free_port()}")
    assert (it.user()["state"], it.user()["health"]) == ("free", "unreachable")
