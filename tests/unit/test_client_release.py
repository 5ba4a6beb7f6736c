"""Releases that fail, are interrupted or run out of time."""

import logging

import httpx
import pytest

from botfarm_client import Botfarm
from botfarm_client.errors import (
    FarmUnreachableError,
)
from botfarm_client.testing import FakeFarm


def test_a_release_that_does_not_get_through_ends_the_block_with_a_warning(
    fake: FakeFarm, farm: Botfarm, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botfarm_client.leasing.holder_requests.PATIENCE", 0)
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
    """Interrupts a request in flight, as Ctrl-C does."""

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


def test_a_close_goes_on_after_an_unexpected_answer_and_hides_no_error(fake: FakeFarm) -> None:
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
