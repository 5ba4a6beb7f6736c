"""Delays of guesses, by a clock that the test moves."""

from collections import Counter
from contextlib import suppress
from random import Random

import pytest

from botfarm.errors import SlowDownError
from botfarm.services.access import login_throttle
from botfarm.services.access.login_throttle import (
    HALF_LIFE,
    LONGEST_DELAY,
    LONGEST_QUEUE,
    PACE,
    LoginThrottle,
)

HERE, THERE = "192.0.2.1", "198.51.100.1"


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def throttle(clock: Clock) -> LoginThrottle:
    return LoginThrottle(clock=clock)


def delays(throttle: LoginThrottle, clock: Clock, attempts: int, *, name: str, address: str) -> list[float]:
    """Delays of attempts that fail one after the other."""
    waited = []
    for _ in range(attempts):
        waited.append(throttle.delay(name, address))
        clock.now += waited[-1]
    return waited


def test_three_failures_are_free_then_each_doubles_the_delay_to_its_limit(
    throttle: LoginThrottle, clock: Clock
) -> None:
    waited = delays(throttle, clock, 10, name="ann", address=HERE)
    assert waited == [0, 0, 0, 0.25, 0.5, 1, 2, 4, 5, 5]


def test_failures_are_forgotten_with_time(throttle: LoginThrottle, clock: Clock) -> None:
    delays(throttle, clock, 8, name="ann", address=HERE)
    clock.now += HALF_LIFE
    assert throttle.delay("ann", HERE) == 0.5  # four of them are left
    clock.now += 10 * HALF_LIFE
    assert throttle.delay("ann", HERE) == 0


def test_a_name_costs_a_delay_but_is_never_refused_wherever_the_attacker_is(throttle: LoginThrottle) -> None:
    for number in range(5_000):
        assert throttle.delay("ann", f"10.0.{number // 250}.{number % 250}") <= LONGEST_DELAY
    assert throttle.delay("ann", THERE) == LONGEST_DELAY
    throttle.succeeded("ann", THERE)
    assert throttle.delay("ann", THERE) == 0


def test_names_differ_in_more_than_capitals(throttle: LoginThrottle, clock: Clock) -> None:
    delays(throttle, clock, 3, name="Ann", address=HERE)
    assert throttle.delay("aNN", THERE) == 0.25


def test_guesses_at_many_names_slow_their_address_down(throttle: LoginThrottle) -> None:
    waited = [throttle.delay(f"name-{number}", HERE) for number in range(4)]
    assert waited == [0, 0, 0, 0.25]
    assert throttle.delay("name-9", THERE) == 0


def test_attempts_at_once_wait_one_after_the_other_and_then_are_refused(
    throttle: LoginThrottle, clock: Clock
) -> None:
    waited = [throttle.delay("ann", HERE) for _ in range(9)]
    assert waited == [0, 0, 0, 0.25, 0.75, 1.75, 3.75, 7.75, 12.75]
    with pytest.raises(SlowDownError) as refused:
        throttle.delay("ann", HERE)
    seconds = refused.value.details["retry_after"]
    assert isinstance(seconds, int)
    assert seconds == 3  # the next one would wait 17.75
    clock.now += seconds
    assert throttle.delay("ann", HERE) <= LONGEST_QUEUE


@pytest.mark.parametrize("guesses_a_second", [1, 10, 15])
def test_a_person_behind_a_guessers_address_gets_in(
    throttle: LoginThrottle, clock: Clock, guesses_a_second: int
) -> None:
    """Guesses at other names, whether always new ones or a few."""
    for number in range(60 * guesses_a_second):
        for name in (f"name-{number}", f"operator-{number % 5}"):
            with suppress(SlowDownError):
                throttle.delay(name, HERE)
        clock.now += 1 / guesses_a_second
    assert throttle.delay("ann", HERE) <= LONGEST_QUEUE
    throttle.succeeded("ann", HERE)
    assert throttle.delay("ann", HERE) <= LONGEST_QUEUE


def test_under_too_many_guesses_some_attempts_are_refused_and_a_retry_gets_in(
    throttle: LoginThrottle, clock: Clock
) -> None:
    """A hundred guesses a second; the person tries again when told to, at any moment between two guesses."""
    chance, let_through, come_back = Random(7), 0, 60.0
    for number in range(300 * 100):
        if number / 100 >= come_back:
            try:
                throttle.delay("ann", HERE)
            except SlowDownError as refused:
                come_back = number / 100 + float(str(refused.details["retry_after"])) + chance.random()
            else:
                let_through += 1
                come_back = number / 100 + 30
                throttle.succeeded("ann", HERE)
        with suppress(SlowDownError):
            throttle.delay(f"name-{number}", HERE)
        clock.now += 0.01
    assert let_through >= 3


def test_an_address_gets_a_bounded_rate_of_verified_passwords(throttle: LoginThrottle, clock: Clock) -> None:
    turns = []
    for number in range(6_000):
        with suppress(SlowDownError):
            turns.append(clock.now + throttle.delay(f"name-{number}", HERE))
        clock.now += 0.01
    seconds = Counter(int(turn) for turn in turns)
    assert max(seconds.values()) <= 1 / PACE + 3


def test_being_refused_is_not_another_failure(throttle: LoginThrottle, clock: Clock) -> None:
    for _ in range(100):
        try:
            throttle.delay("ann", HERE)
        except SlowDownError:
            continue
    clock.now += LONGEST_QUEUE
    assert throttle.delay("ann", HERE) == LONGEST_DELAY


def test_a_success_forgives_failures_of_its_name_only(throttle: LoginThrottle, clock: Clock) -> None:
    delays(throttle, clock, 6, name="ann", address=HERE)
    throttle.succeeded("ann", HERE)
    assert throttle.delay("ann", HERE) == 0
    throttle.succeeded("ann", HERE)
    delays(throttle, clock, 5, name="bob", address=HERE)
    delays(throttle, clock, 1, name="ann", address=HERE)
    throttle.succeeded("ann", HERE)
    assert throttle.delay("carol", HERE) == 1, "five guesses at bob's password"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        (None, None, True),
        ("not an address", "not an address", True),
    ],
)
def test_ipv6_counts_by_network(
    throttle: LoginThrottle, one: str | None, other: str | None, *, same: bool
) -> None:
    for number in range(3):
        throttle.delay(f"name-{number}", one)
    assert (throttle.delay("ann", other) > 0) is same


def test_the_throttle_remembers_a_bounded_number_of_tallies(
    throttle: LoginThrottle, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(login_throttle, "MAX_TALLIES", 10)
    delays(throttle, clock, 4, name="ann", address=HERE)
    for number in range(10):
        throttle.delay(f"name-{number}", f"10.0.0.{number}")
    assert throttle.delay("ann", HERE) == 0
    for tallies in (throttle._names, throttle._addresses, throttle._pairs):
        assert len(tallies._by_key) == 10
