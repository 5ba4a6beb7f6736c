"""A lease in the hands of a thread, against the fake farm."""

import gc
import logging
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from logging.handlers import QueueHandler

import httpx
import pytest

from botfarm_client import Botfarm, Lease
from botfarm_client.errors import (
    FarmUnreachableError,
    InvalidRequestError,
    LeaseLostError,
    NoSuchPoolError,
    NoSuchUserError,
    PoolExhaustedError,
    SettingError,
    UnexpectedAnswerError,
)
from botfarm_client.testing import FakeFarm, FakePolicy, FakeUser


@pytest.fixture
def fake() -> FakeFarm:
    users = [
        FakeUser("a@shop.test", "pw-a", labels={"plan": "paid"}, secrets={"pin": 1}, totp="123456"),
        FakeUser("b@shop.test", "pw-b"),
    ]
    return FakeFarm(users, policy=FakePolicy(lock_delay=1, cooldown=0))


@pytest.fixture
def farm(fake: FakeFarm) -> Iterator[Botfarm]:
    with fake.botfarm() as farm:
        yield farm


@pytest.fixture
def logged() -> "Iterator[queue.Queue[logging.LogRecord]]":
    """What other threads have logged can be waited for."""
    records: queue.Queue[logging.LogRecord] = queue.Queue()
    handler, logger = QueueHandler(records), logging.getLogger("botfarm_client")
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)


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


def test_what_is_shown_of_a_lease_has_no_credential(farm: Botfarm) -> None:
    with farm.lease(labels={"plan": "paid"}) as lease:
        lease.write_back(secrets={"canary": "f00d"})
        shown = repr(lease) + str(lease.user) + repr(vars(lease.user).keys()) + repr(farm)
    assert "a@shop.test" in shown
    for secret in ("pw-a", "pin", "f00d", "123456", "a-token-of"):
        assert secret not in shown


def test_a_code_is_asked_for_when_it_is_wanted(farm: Botfarm) -> None:
    with farm.lease(count=2) as lease:
        by_login = {user.login: user for user in lease.users}
        assert by_login["a@shop.test"].totp() == "123456"
        with pytest.raises(NoSuchUserError):
            by_login["b@shop.test"].totp()


def test_what_a_test_changed_is_there_for_it_and_for_the_next(farm: Botfarm) -> None:
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


def test_kinds_of_exceptions_are_given_in_any_collection_and_looked_at_first(
    fake: FakeFarm, farm: Botfarm
) -> None:
    with pytest.raises(KeyError), farm.lease(broken_on=[ValueError, KeyError]):
        raise KeyError
    assert (fake.leases[0].outcome, fake.leases[0].note) == ("broken", "KeyError")
    for wrong in ("ValueError", [ValueError()], 7, [int]):
        with pytest.raises(SettingError, match="broken_on takes classes"), farm.lease(broken_on=wrong):  # type: ignore[arg-type]
            raise AssertionError("it has begun")
    assert len(fake.leases) == 1


@pytest.mark.parametrize("failure", [KeyboardInterrupt, SystemExit, AssertionError])
def test_it_is_released_however_the_block_ends(
    fake: FakeFarm, farm: Botfarm, failure: type[BaseException]
) -> None:
    with pytest.raises(failure), farm.lease():
        raise failure
    assert fake.leases[0].ended_by == "released"


def test_a_generator_that_nobody_finishes_releases_when_it_is_closed(fake: FakeFarm, farm: Botfarm) -> None:
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


def test_a_generator_that_is_collected_in_the_midst_of_the_keepers_work_stops_nobody(
    fake: FakeFarm, farm: Botfarm
) -> None:
    def logins() -> Iterator[str]:
        with farm.lease() as lease:
            held.append(lease)
            yield lease.user.login

    def collect() -> None:
        with farm._keeper._lock, held[0]._hold._lock:
            generator.close()

    held: list[Lease] = []
    generator = logins()
    next(generator)
    collecting = threading.Thread(target=collect, daemon=True)
    collecting.start()
    collecting.join(10)
    assert not collecting.is_alive()
    assert fake.leases[0].ended_by == "released"


def test_once_more_is_the_same_as_once(fake: FakeFarm, farm: Botfarm) -> None:
    lease = farm.acquire()
    lease.release("dirty")
    lease.release("broken")
    assert fake.leases[0].outcome == "dirty"


def test_what_is_released_gives_no_credentials_and_is_not_renewed(fake: FakeFarm, farm: Botfarm) -> None:
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


def test_a_lease_that_is_slept_through_is_lost_and_gives_no_credentials(
    fake: FakeFarm, farm: Botfarm
) -> None:
    lease = farm.acquire(ttl=60)
    told: queue.Queue[LeaseLostError] = queue.Queue()
    lease.on_lost(told.put)
    fake.advance(59)
    for use in (
        lease.check,
        lease.renew,
        lease.user.totp,
        lambda: lease.user.password,
        lambda: lease.user.secrets,
    ):
        with pytest.raises(LeaseLostError, match="stood still"):
            use()
    assert lease.lost.is_set()
    told.get(timeout=10)
    lease.on_lost(told.put)
    told.get(timeout=10)  # who comes late is told at once
    assert told.empty(), "each is told once"
    assert lease.user.login in {"a@shop.test", "b@shop.test"}


def test_what_was_held_as_long_as_may_be_is_lost_and_says_why() -> None:
    fake = FakeFarm(policy=FakePolicy(default_ttl=60, max_hold=60))
    with fake.botfarm() as farm:
        lease = farm.acquire()
        fake.advance(30)
        lease.renew()
        fake.advance(25)
        with pytest.raises(LeaseLostError, match="max_hold"):
            lease.check()


def test_the_keeper_notices_a_loss_by_itself(fake: FakeFarm, farm: Botfarm) -> None:
    lease = farm.acquire(ttl=60)
    fake.advance(59)
    assert lease.lost.wait(10)


def test_the_keeper_renews_what_is_due_after_a_short_sleep(fake: FakeFarm, farm: Botfarm) -> None:
    with farm.lease(ttl=60) as lease:
        renewed = threading.Event()
        fake.on_answer = lambda name: renewed.set() if name.endswith("/renew") else None
        fake.advance(30)
        assert renewed.wait(10)
        fake.advance(40)
        lease.check()


def test_a_lost_lease_ends_the_block_with_its_error(
    fake: FakeFarm, farm: Botfarm, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(LeaseLostError, match="stood still"), farm.lease(ttl=60):
        fake.advance(100)
    assert "is lost" in caplog.text


def test_an_error_of_the_block_is_not_hidden_by_the_loss(fake: FakeFarm, farm: Botfarm) -> None:
    def check_the_cart() -> None:
        with farm.lease(ttl=60):
            fake.advance(100)
            raise AssertionError("the cart is empty")

    with pytest.raises(AssertionError, match="the cart is empty") as raised:
        check_the_cart()
    assert any("is lost" in note for note in raised.value.__notes__)


def test_what_an_operator_ended_is_lost_at_the_next_use_and_at_the_release(
    fake: FakeFarm, farm: Botfarm
) -> None:
    lease = farm.acquire()
    fake.force_release(lease.id)
    with pytest.raises(LeaseLostError, match="the farm has ended it"):
        lease.renew()
    assert lease.lost.is_set()
    with pytest.raises(LeaseLostError, match="the farm has ended it"), farm.lease() as lease:
        fake.force_release(lease.id)
    lease = farm.acquire(wait=10)
    fake.force_release(lease.id)
    with pytest.raises(LeaseLostError):
        lease.release()


@pytest.mark.parametrize(
    "end",
    [lambda _: 1 / 0, lambda _: sys.exit(75), lambda _: pytest.fail("lost")],
    ids=["error", "sys.exit", "pytest.fail"],
)
def test_a_callback_that_fails_keeps_neither_the_others_nor_the_keeper_from_their_work(
    fake: FakeFarm,
    farm: Botfarm,
    logged: "queue.Queue[logging.LogRecord]",
    end: Callable[[LeaseLostError], object],
) -> None:
    told = threading.Event()
    lease, other = farm.acquire(ttl=60), farm.acquire(ttl=600)
    lease.on_lost(end)
    lease.on_lost(lambda _: told.set())
    fake.advance(100)
    assert told.wait(10)
    assert lease.lost.is_set()
    renew_by_the_keeper(fake, other)
    assert "a callback of the lost lease" in logged.get(timeout=10).getMessage()


def test_a_callback_that_takes_its_time_delays_no_renewal(fake: FakeFarm, farm: Botfarm) -> None:
    begun, may_end = threading.Event(), threading.Event()
    lease, other = farm.acquire(ttl=60), farm.acquire(ttl=600)
    lease.on_lost(lambda _: begun.set() or may_end.wait(30))
    fake.advance(100)
    assert begun.wait(10)
    renew_by_the_keeper(fake, other)
    may_end.set()


@pytest.mark.parametrize("failure", [None, RuntimeError], ids=["odd answer", "bug"])
def test_a_renewal_that_fails_in_whatever_way_is_made_again(
    fake: FakeFarm, farm: Botfarm, failure: type[Exception] | None
) -> None:
    lease = farm.acquire(ttl=600)
    answer, failed = fake.transport.handle_request, threading.Event()

    def fail(request: httpx.Request) -> httpx.Response:
        fake.transport.handle_request = answer  # type: ignore[method-assign]
        failed.set()
        if failure is not None:
            raise failure
        return httpx.Response(200, json={"status": "maintenance"}, request=request)

    fake.transport.handle_request = fail  # type: ignore[method-assign]
    fake.advance(250)
    assert failed.wait(10)
    renew_by_the_keeper(fake, lease)


def test_a_lease_without_what_a_lease_must_have_is_no_farms(fake: FakeFarm, farm: Botfarm) -> None:
    answer = fake.transport.handle_request

    def without(*path: str | int) -> None:
        def odd(request: httpx.Request) -> httpx.Response:
            document = answer(request).json()
            place = document
            for step in path[:-1]:
                place = place[step]
            del place[path[-1]]
            return httpx.Response(200, json=document, request=request)

        fake.transport.handle_request = odd  # type: ignore[method-assign]

    for path in (("id",), ("fence",), ("expires_in",), ("users",), ("users", 0, "password")):
        without(*path)
        with pytest.raises(UnexpectedAnswerError, match=f"has no {path[-1]}: check BOTFARM_URL"):
            farm.acquire()
        fake.force_release(fake.leases[-1].id)
        fake.advance(2)
    fake.transport.handle_request = answer  # type: ignore[method-assign]
    lease = farm.acquire(labels={"plan": "paid"})
    without("code")
    with pytest.raises(UnexpectedAnswerError):
        lease.user.totp()
    without("password")
    with pytest.raises(UnexpectedAnswerError):
        lease.write_back(password="new")
    fake.transport.handle_request = answer  # type: ignore[method-assign]


def renew_by_the_keeper(fake: FakeFarm, lease: Lease) -> None:
    renewed = threading.Event()
    fake.on_answer = lambda name: renewed.set() if name == f"POST /leases/{lease.id}/renew" else None
    fake.advance(150)
    assert renewed.wait(10)


def test_a_release_that_does_not_get_through_ends_the_block_with_a_warning(
    fake: FakeFarm, farm: Botfarm, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botfarm_client.holding.PATIENCE", 0)
    with caplog.at_level(logging.WARNING), farm.lease():
        fake.fail_next("refused")
    assert "was not released (cannot reach the farm at http://fake.test" in caplog.text
    assert "it ends by itself" in caplog.text
    lease = farm.acquire()
    fake.fail_next("refused")
    with pytest.raises(FarmUnreachableError):
        lease.release()
    lease.release()
    assert fake.leases[1].ended_by == "released"


def interrupt_once(fake: FakeFarm, verb: str) -> None:
    """As Ctrl-C does it that comes while this is on its way."""

    def interrupt(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith(verb):
            fake.transport.handle_request = answer  # type: ignore[method-assign]
            raise KeyboardInterrupt
        return answer(request)

    answer = fake.transport.handle_request
    fake.transport.handle_request = interrupt  # type: ignore[method-assign]


def test_a_release_that_is_interrupted_is_made_good_when_the_farm_is_closed(fake: FakeFarm) -> None:
    def use() -> None:
        with fake.botfarm() as farm, farm.lease():
            interrupt_once(fake, "/release")

    with pytest.raises(KeyboardInterrupt):
        use()
    assert [lease.ended_by for lease in fake.leases] == ["released"]


def test_a_close_that_is_interrupted_still_releases_what_is_held(fake: FakeFarm) -> None:
    def use() -> None:
        with fake.botfarm() as farm:
            farm.acquire()
            farm.acquire()
            interrupt_once(fake, "/release")

    with pytest.raises(KeyboardInterrupt):
        use()
    assert [lease.ended_by for lease in fake.leases] == ["released", "released"]


def test_a_close_that_meets_an_odd_answer_goes_on_and_hides_no_error(fake: FakeFarm) -> None:
    answer = fake.transport.handle_request

    def odd(request: httpx.Request) -> httpx.Response:
        fake.transport.handle_request = answer  # type: ignore[method-assign]
        return httpx.Response(200, text="<html>sign in</html>", request=request)

    def use() -> None:
        with fake.botfarm() as farm:
            farms.append(farm)
            farm.acquire()
            farm.acquire()
            fake.transport.handle_request = odd  # type: ignore[method-assign]
            raise AssertionError("the cart is empty")

    farms: list[Botfarm] = []
    with pytest.raises(AssertionError, match="the cart is empty"):
        use()
    assert [lease.ended_by for lease in fake.leases] == [None, "released"]
    with pytest.raises(RuntimeError, match="closed"):
        farms[0].acquire()


def test_a_close_has_ten_seconds_for_all_its_leases(fake: FakeFarm, caplog: pytest.LogCaptureFixture) -> None:
    asked: list[str] = []

    def be_away(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        fake.advance(6)
        return httpx.Response(503, json={"detail": "the database is away"}, request=request)

    with fake.botfarm() as farm:
        first, second = farm.acquire(), farm.acquire()
        fake.transport.handle_request = be_away  # type: ignore[method-assign]
    assert asked == [f"/api/v1/leases/{first.id}/release"] * 2
    assert f"lease {first.id} was not released (503" in caplog.text
    assert f"lease {second.id} was not released (there was no time left" in caplog.text


def test_a_lost_answer_of_a_release_is_made_good(fake: FakeFarm, farm: Botfarm) -> None:
    with farm.lease():
        fake.fail_next("lost")
    assert fake.leases[0].ended_by == "released"


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


def test_who_gets_nobody_is_told_of_which_pool(farm: Botfarm) -> None:
    with farm.lease(count=2, ttl=40), pytest.raises(PoolExhaustedError) as raised:
        farm.acquire(wait=0)
    assert str(raised.value) == "pool shop/stage/regular exhausted: 0 waiting, next free in 41 s"
    with pytest.raises(NoSuchPoolError):
        farm.acquire(domain="canary")
    with pytest.raises(InvalidRequestError):
        farm.acquire(priority=11)


def test_who_waits_gets_what_is_released(farm: Botfarm) -> None:
    held = farm.acquire(count=2)
    got: list[Lease] = []
    waiting = threading.Thread(target=lambda: got.append(farm.acquire(wait=30)))
    waiting.start()
    held.release()
    waiting.join(20)
    assert len(got) == 1


def test_a_lease_is_not_older_for_the_wait_before_it(fake: FakeFarm, farm: Botfarm) -> None:
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
