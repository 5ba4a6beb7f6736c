"""A lease that is lost, and the renewer that keeps leases from being lost."""

import logging
import queue
import sys
import threading
from collections.abc import Callable

import httpx
import pytest

from botfarm_client import Botfarm, Lease
from botfarm_client.errors import (
    LeaseLostError,
    UnexpectedAnswerError,
)
from botfarm_client.testing import FakeFarm, FakePolicy


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
    told.get(timeout=10)  # a late callback is called at once
    assert told.empty(), "each is told once"
    assert lease.user.login in {"a@shop.test", "b@shop.test"}


def test_a_lease_held_for_max_hold_is_lost_and_says_why() -> None:
    fake = FakeFarm(policy=FakePolicy(default_ttl=60, max_hold=60))
    with fake.botfarm() as farm:
        lease = farm.acquire()
        fake.advance(30)
        lease.renew()
        fake.advance(25)
        with pytest.raises(LeaseLostError, match="max_hold"):
            lease.check()


def test_the_renewer_notices_a_loss_by_itself(fake: FakeFarm, farm: Botfarm) -> None:
    lease = farm.acquire(ttl=60)
    fake.advance(59)
    assert lease.lost.wait(10)


def test_the_renewer_renews_a_lease_that_is_due_after_a_short_sleep(fake: FakeFarm, farm: Botfarm) -> None:
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


def test_a_lease_ended_by_an_operator_is_lost_at_the_next_use_and_at_the_release(
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
def test_a_callback_that_fails_stops_neither_the_other_callbacks_nor_the_renewer(
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
    renew_by_the_renewer(fake, other)
    assert "a callback of the lost lease" in logged.get(timeout=10).getMessage()


def test_a_callback_that_takes_its_time_delays_no_renewal(fake: FakeFarm, farm: Botfarm) -> None:
    begun, may_end = threading.Event(), threading.Event()
    lease, other = farm.acquire(ttl=60), farm.acquire(ttl=600)
    lease.on_lost(lambda _: begun.set() or may_end.wait(30))
    fake.advance(100)
    assert begun.wait(10)
    renew_by_the_renewer(fake, other)
    may_end.set()


@pytest.mark.parametrize("failure", [None, RuntimeError], ids=["odd answer", "bug"])
def test_a_renewal_that_fails_in_any_way_is_retried(
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
    renew_by_the_renewer(fake, lease)


def test_an_answer_without_the_fields_of_a_lease_is_unexpected(fake: FakeFarm, farm: Botfarm) -> None:
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


def renew_by_the_renewer(fake: FakeFarm, lease: Lease) -> None:
    renewed = threading.Event()
    fake.on_answer = lambda name: renewed.set() if name == f"POST /leases/{lease.id}/renew" else None
    fake.advance(150)
    assert renewed.wait(10)
