import json
from collections.abc import Callable

import httpx
import pytest

from botfarm_client.acquiring import GRACE, Acquiring, LostAnswerError
from botfarm_client.connection import Connection, Json, ProblemError

Answer = Callable[[httpx.Request], httpx.Response]
LEASE = {"id": "the lease"}


class Scene:
    """A farm that gives the answers of a list, the last one for ever, and a clock that only waiting moves."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.now = 100.0
        self.waits: list[int] = []
        self.keys: set[str] = set()

    def acquire(self, *, wait: float) -> Json:
        client = httpx.Client(transport=httpx.MockTransport(self._handle))
        with client, Connection("http://farm.test", "token", client=client) as farm:
            acquiring = Acquiring(farm=farm, idempotency_key="key", clock=lambda: self.now, sleep=self._sleep)
            return acquiring.acquire({"env": "stage"}, wait=wait)

    def _sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.waits.append(json.loads(request.read())["wait_seconds"])
        self.keys.add(request.headers["idempotency-key"])
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return answer(request)

    def exhausted_after(self, seconds: float) -> Answer:
        def answer(_: httpx.Request) -> httpx.Response:
            self.now += seconds
            return problem(409, "pool-exhausted", waited=seconds)

        return answer


def problem(status: int, slug: str, **details: object) -> httpx.Response:
    return httpx.Response(status, json={"type": f"urn:botfarm:problem:{slug}", "detail": slug, **details})


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
    assert scene.keys == {"key"}


def test_where_too_many_wait_already_it_tries_again_a_second_later() -> None:
    scene = Scene(lambda _: problem(429, "too-many-waiters"), granted)
    assert scene.acquire(wait=60) == LEASE
    assert scene.waits == [60, 59]


def test_when_the_wait_is_over_the_problem_knows_how_long_it_was() -> None:
    scene = Scene()
    scene._answers = [scene.exhausted_after(50)]
    with pytest.raises(ProblemError) as raised:
        scene.acquire(wait=120)
    assert scene.waits == [120, 70, 20]
    assert raised.value.details["waited"] == 150


def test_who_does_not_wait_asks_once() -> None:
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
    assert scene.keys == {"key"}


def test_a_lost_answer_that_stays_lost_is_told_apart() -> None:
    scene = Scene(lost)
    with pytest.raises(LostAnswerError) as raised:
        scene.acquire(wait=0)
    assert isinstance(raised.value.cause, httpx.ReadError)
    assert scene.now == 100 + GRACE


def test_a_farm_that_was_never_reached_ends_it_at_once() -> None:
    scene = Scene(refused)
    with pytest.raises(httpx.ConnectError):
        scene.acquire(wait=600)
    assert len(scene.waits) == 1


def test_a_farm_that_restarts_during_a_wait_is_waited_for() -> None:
    scene = Scene()
    scene._answers = [scene.exhausted_after(50), refused, refused, granted]
    assert scene.acquire(wait=120) == LEASE


def test_a_farm_that_goes_away_during_a_wait_is_unreachable_when_the_wait_is_over() -> None:
    scene = Scene()
    scene._answers = [scene.exhausted_after(50), refused]
    with pytest.raises(httpx.ConnectError):
        scene.acquire(wait=60)
    assert scene.now == 160


def test_what_waiting_cannot_mend_ends_it_at_once() -> None:
    scene = Scene(lambda _: problem(404, "no-such-pool"))
    with pytest.raises(ProblemError, match="no-such-pool"):
        scene.acquire(wait=60)
    assert len(scene.waits) == 1
