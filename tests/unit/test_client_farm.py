"""Acquires with the SDK, granted and refused, and the settings of a farm."""

import threading

import pytest

from botfarm_client import Botfarm, Lease
from botfarm_client.errors import (
    InvalidRequestError,
    NoSuchPoolError,
    NoSuchUserError,
    PoolExhaustedError,
    SettingError,
)
from botfarm_client.testing import FakeFarm, FakeUser


def test_a_lost_answer_takes_no_second_user(fake: FakeFarm, farm: Botfarm) -> None:
    fake.fail_next("lost", times=2)
    with farm.lease() as lease:
        assert [each.id for each in fake.leases] == [lease.id]


def test_an_acquire_that_is_interrupted_gives_back_what_it_took(fake: FakeFarm, farm: Botfarm) -> None:
    def interrupt(_: str) -> None:
        fake.on_answer = None
        raise KeyboardInterrupt

    fake.on_answer = interrupt
    with pytest.raises(KeyboardInterrupt):
        farm.acquire()
    (taken,) = fake.leases
    assert taken.ended_by == "released"
    assert "interrupted" in (taken.note or "")


def test_the_error_of_an_exhausted_pool_names_the_pool(farm: Botfarm) -> None:
    with farm.lease(count=2, ttl=40), pytest.raises(PoolExhaustedError) as raised:
        farm.acquire(wait=0)
    assert str(raised.value) == "pool shop/stage exhausted: 0 waiting, next free in 41 s"
    with pytest.raises(NoSuchPoolError):
        farm.acquire(domain="canary")
    with pytest.raises(InvalidRequestError):
        farm.acquire(priority=11)


def test_one_user_is_taken_by_its_login_and_the_error_names_it(farm: Botfarm) -> None:
    with farm.lease(user="B@shop.test", ttl=40) as lease:
        assert (lease.user.login, lease.pool) == ("b@shop.test", "shop/stage/B@shop.test")
        with pytest.raises(PoolExhaustedError) as raised:
            farm.acquire(user="b@shop.test", wait=0)
    assert str(raised.value) == "user b@shop.test taken: 0 waiting, next free in 41 s"
    with pytest.raises(NoSuchUserError):
        farm.acquire(user="c@shop.test")
    with pytest.raises(InvalidRequestError):
        farm.acquire(user="b@shop.test", count=2)


def test_labels_may_be_one_of_several_values_or_absent(farm: Botfarm) -> None:
    with farm.lease(labels={"plan": ("trial", "paid"), "legacy": None}) as lease:
        assert lease.user.login == "a@shop.test"
    with farm.lease(labels={"plan": None}) as lease:
        assert lease.user.login == "b@shop.test"
    for wrong in (5, ["paid", 5]):
        with pytest.raises(InvalidRequestError):
            farm.acquire(labels={"plan": wrong})  # type: ignore[dict-item]


def test_without_a_domain_a_lease_is_of_the_projects_first() -> None:
    users = [
        FakeUser("a@x.test", env="qa1", domain="seller"),
        FakeUser("b@x.test", env="qa1", domain="buyer"),
    ]
    farm = FakeFarm(users, env="qa1", domain="buyer").botfarm()
    with farm.lease() as lease, farm.lease(domain="seller") as other:
        assert (lease.user.login, lease.pool) == ("b@x.test", "shop/qa1/buyer")
        assert other.user.login == "a@x.test"


def test_a_waiting_acquire_gets_a_released_user(farm: Botfarm) -> None:
    held = farm.acquire(count=2)
    got: list[Lease] = []
    waiting = threading.Thread(target=lambda: got.append(farm.acquire(wait=30)))
    waiting.start()
    held.release()
    waiting.join(20)
    assert len(got) == 1


def test_the_wait_does_not_count_for_the_age_of_a_lease(fake: FakeFarm, farm: Botfarm) -> None:
    held = farm.acquire(count=2)
    got: list[Lease] = []
    waiting = threading.Thread(target=lambda: got.append(farm.acquire(ttl=10, wait=300)))
    waiting.start()
    while not fake.waiting:
        threading.Event().wait(0.01)
    fake.advance(60)
    held.release()
    waiting.join(20)
    assert got[0].expires_in > 5
    got[0].check()


def test_settings_come_from_the_environment(fake: FakeFarm, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake:
        for name, value in fake.environment.items():
            monkeypatch.setenv(name, value)
        with Botfarm() as farm, farm.lease() as lease:
            assert lease.pool == "shop/stage/regular"
        with Botfarm(project=fake.project_id, env="prod") as farm:
            with farm.lease(env="stage"):
                pass
            with pytest.raises(NoSuchPoolError):
                farm.acquire()


def test_a_setting_that_is_missing_or_wrong_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BOTFARM_URL", "BOTFARM_TOKEN", "BOTFARM_PROJECT", "BOTFARM_ENV"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SettingError, match="set BOTFARM_TOKEN"):
        Botfarm()
    with pytest.raises(SettingError, match="takes no password") as raised:
        Botfarm("http://user:pw@farm.test", "token")
    assert "pw@" not in str(raised.value)
    with Botfarm(token="token") as farm, pytest.raises(SettingError, match="set BOTFARM_PROJECT"):
        farm.acquire()
    with Botfarm(token="token", project="shop") as farm, pytest.raises(SettingError, match="set BOTFARM_ENV"):
        farm.acquire()
