"""Leases held by threads, from the acquire to the release."""

import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from botfarm_client import Botfarm, Lease
from botfarm_client.errors import (
    LeaseLostError,
    NoSuchUserError,
    SettingError,
)
from botfarm_client.testing import FakeFarm


def test_a_lease_is_held_in_the_block_and_released_after_it(fake: FakeFarm, farm: Botfarm) -> None:
    with farm.lease(
        labels={"plan": "paid"}, owner="job 7", metadata={"url": "https://ci.test"}, ttl=60
    ) as lease:
        assert (lease.pool, lease.fence) == ("shop/stage/regular", 1)
        assert (lease.user.login, lease.user.password) == ("a@shop.test", "pw-a")
        assert (lease.user.labels, lease.user.secrets) == ({"plan": "paid"}, {"pin": 1})
        assert 50 < lease.expires_in <= 60
        assert not lease.lost.is_set()
        lease.check()
        (there,) = fake.leases
        assert (there.id, there.owner, there.metadata) == (lease.id, "job 7", {"url": "https://ci.test"})
        assert there.is_live
    assert (there.ended_by, there.outcome, there.note) == ("released", "ok", None)


def test_several_users_have_no_single_one(farm: Botfarm) -> None:
    with farm.lease(count=2) as lease:
        assert {user.login for user in lease.users} == {"a@shop.test", "b@shop.test"}
        with pytest.raises(ValueError, match="this lease has 2 users: take them from `users`"):
            _ = lease.user
        with pytest.raises(ValueError, match="this lease has 2 users"):
            lease.write_back(password="new")


def test_the_repr_of_a_lease_has_no_credential(farm: Botfarm) -> None:
    with farm.lease(labels={"plan": "paid"}) as lease:
        lease.write_back(secrets={"canary": "f00d"})
        shown = repr(lease) + str(lease.user) + repr(vars(lease.user).keys()) + repr(farm)
    assert "a@shop.test" in shown
    for secret in ("pw-a", "pin", "f00d", "123456", "a-token-of"):
        assert secret not in shown


def test_a_user_with_a_seed_gives_a_one_time_code(farm: Botfarm) -> None:
    with farm.lease(count=2) as lease:
        by_login = {user.login: user for user in lease.users}
        assert by_login["a@shop.test"].totp() == by_login["a@shop.test"].totp(good_for=20) == "123456"
        for wrong in (-1, 21):
            with pytest.raises(ValueError, match="from 0 to 20 seconds"):
                by_login["a@shop.test"].totp(good_for=wrong)
        with pytest.raises(NoSuchUserError):
            by_login["b@shop.test"].totp()


def test_written_back_credentials_are_seen_by_this_holder_and_the_next(farm: Botfarm) -> None:
    for expected, change in ((1, 2), (2, None)):
        with farm.lease(labels={"plan": "paid"}) as lease:
            assert lease.user.secrets["pin"] == expected
            lease.write_back(password=f"pw-{change}", secrets={"pin": change})
            assert lease.user.password == f"pw-{change}"
            held = dict(lease.user.secrets)
    assert held == {}


def test_one_of_several_users_is_written_back_by_naming_it(fake: FakeFarm, farm: Botfarm) -> None:
    with farm.lease(count=2) as lease:
        lease.write_back(user=lease.users[1], password="new")
        assert [user.password for user in fake.users if user.id == lease.users[1].id] == ["new"]


def test_an_exception_of_a_chosen_kind_leaves_the_users_broken(fake: FakeFarm, farm: Botfarm) -> None:
    class CaptchaError(Exception):
        pass

    with pytest.raises(CaptchaError), farm.lease(broken_on=(CaptchaError,)):
        raise CaptchaError("the password is pw-a")
    assert (fake.leases[0].outcome, fake.leases[0].note) == ("broken", "CaptchaError")
    with pytest.raises(RuntimeError), farm.lease(broken_on=CaptchaError):
        raise RuntimeError
    assert (fake.leases[1].outcome, fake.leases[1].note) == ("ok", None)


def test_broken_on_takes_any_collection_and_is_checked_before_a_user_is_taken(
    fake: FakeFarm, farm: Botfarm
) -> None:
    with pytest.raises(KeyError), farm.lease(broken_on=[ValueError, KeyError]):
        raise KeyError
    assert (fake.leases[0].outcome, fake.leases[0].note) == ("broken", "KeyError")
    for wrong in ("ValueError", [ValueError()], 7, [int]):
        with (
            pytest.raises(SettingError, match="broken_on takes classes"),
            farm.lease(broken_on=wrong),  # type: ignore[arg-type]
        ):
            raise AssertionError("it has begun")
    assert len(fake.leases) == 1


@pytest.mark.parametrize("failure", [KeyboardInterrupt, SystemExit, AssertionError])
def test_a_lease_is_released_however_its_block_ends(
    fake: FakeFarm, farm: Botfarm, failure: type[BaseException]
) -> None:
    with pytest.raises(failure), farm.lease():
        raise failure
    assert fake.leases[0].ended_by == "released"


def test_a_lease_in_a_generator_is_released_when_the_generator_is_closed(
    fake: FakeFarm, farm: Botfarm
) -> None:
    def logins() -> Iterator[str]:
        with farm.lease() as lease:
            yield lease.user.login

    generator = logins()
    next(generator)
    assert fake.leases[0].is_live
    generator.close()
    assert fake.leases[0].ended_by == "released"
    other = logins()
    next(other)
    del other
    gc.collect()
    assert fake.leases[1].ended_by == "released"


def test_a_farm_that_is_closed_releases_what_is_still_held(fake: FakeFarm) -> None:
    with fake.botfarm() as farm:
        lease = farm.acquire()
        farm.acquire().release("dirty", "the cart is full")
    assert [each.ended_by for each in fake.leases] == ["released", "released"]
    assert (fake.leases[1].outcome, fake.leases[1].note) == ("dirty", "the cart is full")
    assert not lease.lost.is_set()


def test_a_lease_that_is_let_go_is_neither_renewed_nor_released(fake: FakeFarm) -> None:
    with fake.botfarm() as farm:
        left, held = farm.acquire(ttl=600), farm.acquire(ttl=600)
        left.let_go()
        asked: list[str] = []
        fake.on_answer = asked.append
        fake.advance(250)
        while not asked:
            threading.Event().wait(0.01)
    assert asked[0] == f"POST /leases/{held.id}/renew"
    assert not [name for name in asked if left.id in name]
    assert [lease.ended_by for lease in fake.leases] == [None, "released"]


def test_a_generator_that_is_collected_under_the_locks_of_the_renewer_does_not_deadlock(
    fake: FakeFarm, farm: Botfarm
) -> None:
    def logins() -> Iterator[str]:
        with farm.lease() as lease:
            held.append(lease)
            yield lease.user.login

    def collect() -> None:
        with farm._renewer._lock, held[0]._clock._lock:
            generator.close()

    held: list[Lease] = []
    generator = logins()
    next(generator)
    collecting = threading.Thread(target=collect, daemon=True)
    collecting.start()
    collecting.join(10)
    assert not collecting.is_alive()
    assert fake.leases[0].ended_by == "released"


def test_a_second_release_does_nothing(fake: FakeFarm, farm: Botfarm) -> None:
    lease = farm.acquire()
    lease.release("dirty")
    lease.release("broken")
    assert fake.leases[0].outcome == "dirty"


def test_a_released_lease_gives_no_credentials_and_is_not_renewed(fake: FakeFarm, farm: Botfarm) -> None:
    with farm.lease(labels={"plan": "paid"}) as lease:
        assert not lease.is_released
    asked: list[str] = []
    fake.on_answer = asked.append
    for use in (
        lease.check,
        lease.renew,
        lease.user.totp,
        lambda: lease.user.password,
        lambda: lease.user.secrets,
        lambda: lease.write_back(password="new"),
    ):
        with pytest.raises(LeaseLostError, match="it was released"):
            use()
    assert asked == []
    assert lease.is_released
    assert not lease.lost.is_set()


def test_a_term_that_does_not_exist_is_refused_before_the_farm_is_asked(
    fake: FakeFarm, farm: Botfarm
) -> None:
    misspelt: dict[str, Any] = {"label": {"team": "red"}}
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'label': .*labels"):
        farm.acquire(**misspelt)
    assert not fake.leases
