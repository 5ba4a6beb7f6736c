import json
from collections.abc import Callable, Iterable

import httpx
import pytest

from botfarm_client.connection.api_calls import Json
from botfarm_client.connection.connection import Connection
from botfarm_client.connection.retrying import FIRST_PAUSE, LONGEST_PAUSE, Result, Steps, carry_out
from botfarm_client.errors import (
    FarmUnreachableError,
    IdempotencyKeyEndedError,
    LostAnswerError,
    PoolExhaustedError,
    ProblemError,
    QuotaExceededError,
    TooManyWaitersError,
)
from botfarm_client.leasing.acquiring import GRACE, UNREACHED, Acquiring

Answer = Callable[[httpx.Request], httpx.Response]
LEASE = {"id": "the lease", "expires_in": 600, "domain": "canary"}
WANTED = {"project": "shop", "env": "stage", "domain": "canary"}


class Scene:
    """A farm that gives the answers of a list, the last one repeatedly, and a clock that only waits move."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.now = 100.0
        self.waits: list[int] = []
        self.keys: list[str] = []
        self.pauses: list[float] = []

    def acquire(self, *, wait: float, keys: Iterable[str] | None = ("key",)) -> Json:
        self.acquiring = Acquiring(WANTED, wait=wait, keys=keys, now=lambda: self.now)
        self.grant = self.carry_out(self.acquiring.steps())
        return self.grant.answer

    def carry_out(self, steps: Steps[Result]) -> Result:
        transport = httpx.MockTransport(self._handle)
        with Connection("http://farm.test", "token", transport=transport) as farm:
            return carry_out(steps, farm, sleep=self._sleep)

    def _sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.pauses.append(seconds)
        self.now += seconds

    def _handle(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/v1/leases":
            self.waits.append(json.loads(request.read())["wait_seconds"])
            self.keys.append(request.headers["idempotency-key"])
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return answer(request)

    def exhausted_after(self, seconds: float, **details: object) -> Answer:
        def answer(_: httpx.Request) -> httpx.Response:
            self.now += seconds
            return problem(409, "pool-exhausted", waited=seconds, **details)

        return answer


def problem(status: int, slug: str, retry_after: int | None = None, **details: object) -> httpx.Response:
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    document = {"type": f"urn:botfarm:problem:{slug}", "detail": slug, **details}
    return httpx.Response(status, json=document, headers=headers)


def granted(_: httpx.Request) -> httpx.Response:
    return httpx.Response(201, json=LEASE)


def lost(_: httpx.Request) -> httpx.Response:
    raise httpx.ReadError("reset")


def refused(_: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused")


def shutting_down(_: httpx.Request) -> httpx.Response:
    return problem(503, "shutting-down")


def test_a_wait_longer_than_the_farm_allows_is_several_requests_under_one_key() -> None:
    scene = Scene()
    scene._answers = [scene.exhausted_after(50), scene.exhausted_after(50), granted]
    assert scene.acquire(wait=320) == LEASE
    assert scene.waits == [300, 270, 220]
    assert set(scene.keys) == {"key"}


def test_too_many_waiters_is_retried_no_sooner_than_the_farm_allows() -> None:
    scene = Scene(lambda _: problem(429, "too-many-waiters", retry_after=7), granted)
    assert scene.acquire(wait=60) == LEASE
    assert 7 <= scene.pauses[0] <= 8


def test_an_acquire_fails_at_once_when_the_next_pause_would_exceed_its_wait() -> None:
    scene = Scene(lambda _: problem(429, "too-many-waiters", retry_after=7))
    with pytest.raises(TooManyWaitersError):
        scene.acquire(wait=5)
    assert len(scene.waits) == 1


def test_the_pauses_between_failures_grow_and_are_random() -> None:
    scene = Scene(lambda _: problem(429, "too-many-waiters"))
    with pytest.raises(TooManyWaitersError):
        scene.acquire(wait=600)
    limits = [min(FIRST_PAUSE * 2**number, LONGEST_PAUSE) for number in range(len(scene.pauses))]
    assert all(pause <= limit for pause, limit in zip(scene.pauses, limits, strict=True))
    assert max(scene.pauses) > FIRST_PAUSE * 2
    assert len(set(scene.pauses)) > 20


def test_a_quota_is_waited_out() -> None:
    full = problem(429, "quota-exceeded", held=3, max_leases=3, count=1)
    scene = Scene(lambda _: full, lambda _: full, granted)
    assert scene.acquire(wait=60) == LEASE
    scene = Scene(lambda _: full)
    with pytest.raises(
        QuotaExceededError, match=r"no user of shop/stage/canary after 60 s.* holds 3 .* of the 3"
    ):
        scene.acquire(wait=60)


def test_a_quota_smaller_than_the_count_is_not_waited_for() -> None:
    scene = Scene(lambda _: problem(429, "quota-exceeded", held=0, max_leases=3, count=4))
    with pytest.raises(QuotaExceededError):
        scene.acquire(wait=60)
    assert len(scene.waits) == 1


def test_the_problem_after_a_wait_tells_how_long_the_wait_was() -> None:
    scene = Scene()
    scene._answers = [scene.exhausted_after(50)]
    with pytest.raises(ProblemError) as raised:
        scene.acquire(wait=120)
    assert scene.waits == [120, 70, 20]
    assert raised.value.details["waited"] == 150


def test_the_error_of_an_exhausted_pool_names_the_pool_and_its_counts() -> None:
    scene = Scene()
    scene._answers = [scene.exhausted_after(120, waiting=12, next_free_in=40.2)]
    with pytest.raises(PoolExhaustedError) as raised:
        scene.acquire(wait=120)
    assert str(raised.value) == "pool shop/stage/canary exhausted after 120 s: 12 waiting, next free in 40 s"
    assert (raised.value.waited, raised.value.waiting, raised.value.next_free_in) == (120, 12, 40.2)


def test_an_acquire_without_a_wait_sends_one_request() -> None:
    scene = Scene()
    scene._answers = [scene.exhausted_after(0)]
    with pytest.raises(ProblemError):
        scene.acquire(wait=0)
    assert scene.waits == [0]


def test_a_farm_that_does_not_wait_is_not_asked_without_a_pause() -> None:
    scene = Scene()
    scene._answers = [scene.exhausted_after(0)]
    with pytest.raises(ProblemError):
        scene.acquire(wait=5)
    assert scene.waits == [5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize("answer", [lost, shutting_down])
def test_after_a_lost_answer_the_key_is_tried_again_even_without_a_wait(answer: Answer) -> None:
    scene = Scene(answer, refused, granted)
    assert scene.acquire(wait=0) == LEASE
    assert set(scene.keys) == {"key"}


def test_an_acquire_whose_answers_stay_lost_says_that_users_may_have_been_taken() -> None:
    scene = Scene(lost)
    with pytest.raises(LostAnswerError, match="users may have been taken"):
        scene.acquire(wait=0)
    assert GRACE - LONGEST_PAUSE < scene.now - 100 <= GRACE


def test_a_key_whose_lease_has_ended_is_replaced_while_there_is_time() -> None:
    def ended(_: httpx.Request) -> httpx.Response:
        return problem(409, "idempotency-key-ended")

    scene = Scene(lost, ended, granted)
    assert scene.acquire(wait=0, keys=None) == LEASE
    first, again, anew = scene.keys
    assert first == again != anew
    scene = Scene(lost, ended, granted)
    with pytest.raises(IdempotencyKeyEndedError):  # a key that the caller chose is not replaced
        scene.acquire(wait=60, keys=["mine"])


def test_a_farm_that_is_never_reached_is_not_waited_for_long() -> None:
    scene = Scene(refused)
    with pytest.raises(FarmUnreachableError, match="cannot reach the farm at http://farm"):
        scene.acquire(wait=600)
    assert len(scene.waits) > 1
    assert scene.now - 100 <= UNREACHED
    scene = Scene(refused)
    with pytest.raises(FarmUnreachableError):
        scene.acquire(wait=0)
    assert len(scene.waits) == 1


def test_a_lease_that_came_after_a_long_wait_is_asked_for_once_more_to_know_its_age() -> None:
    def granted_late(_: httpx.Request) -> httpx.Response:
        scene.now += 50
        return httpx.Response(201, json={**LEASE, "expires_in": 30})

    scene = Scene(granted_late, granted)
    assert scene.acquire(wait=300) == LEASE
    assert scene.keys == ["key", "key"]
    assert scene.grant.asked_at == 150
    scene = Scene(lost, granted_late, refused, granted)
    assert scene.acquire(wait=300) == LEASE
    assert len(scene.keys) == 4
    scene = Scene(granted_late, refused)
    with pytest.raises(LostAnswerError):
        scene.acquire(wait=0)


def test_an_interrupted_request_is_asked_for_once_more_and_what_it_got_is_released() -> None:
    released: list[str] = []

    def interrupted(_: httpx.Request) -> httpx.Response:
        raise KeyboardInterrupt

    def release(request: httpx.Request) -> httpx.Response:
        released.append(request.url.path)
        return httpx.Response(200, json={})

    scene = Scene(interrupted, granted, release)
    with pytest.raises(KeyboardInterrupt):
        scene.acquire(wait=60)
    scene.carry_out(scene.acquiring.taking_back())
    assert scene.waits == [60, 0]
    assert released == ["/api/v1/leases/the lease/release"]


def test_an_interruption_during_a_pause_has_no_lease_to_release() -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    scene = Scene(lambda _: problem(429, "too-many-waiters"), granted)
    scene._sleep = interrupt  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        scene.acquire(wait=60)
    scene.carry_out(scene.acquiring.taking_back())
    assert len(scene.waits) == 1


def test_a_farm_that_restarts_during_a_wait_is_waited_for() -> None:
    scene = Scene()
    scene._answers = [scene.exhausted_after(50), refused, refused, granted]
    assert scene.acquire(wait=120) == LEASE


def test_a_farm_that_goes_away_during_a_wait_is_unreachable_when_the_wait_is_over() -> None:
    scene = Scene()
    scene._answers = [scene.exhausted_after(50), refused]
    with pytest.raises(FarmUnreachableError):
        scene.acquire(wait=60)
    assert 155 < scene.now <= 160


def test_errors_that_waiting_cannot_fix_are_raised_at_once() -> None:
    scene = Scene(lambda _: problem(404, "no-such-pool"))
    with pytest.raises(ProblemError, match="no-such-pool"):
        scene.acquire(wait=60)
    assert len(scene.waits) == 1
