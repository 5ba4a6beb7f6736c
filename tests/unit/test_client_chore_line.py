"""Where a keeper's chores come from, and when its loop rests or ends, by a clock that the test moves."""

import json
import logging
from collections.abc import Callable

import httpx
import pytest

from botfarm_client.connection.connection import Connection
from botfarm_client.connection.farm_settings import FarmSettings
from botfarm_client.connection.retrying import Result, Steps, carry_out
from botfarm_client.errors import FarmUnreachableError, ForbiddenError, LostAnswerError, QuotaExceededError
from botfarm_client.leasing.acquiring import Grant
from botfarm_client.leasing.chore_line import FIRST_REST, LONGEST_REST, TRIES, ChoreLine
from botfarm_client.leasing.verdicts import Verdict

Answer = Callable[[httpx.Request], httpx.Response]
LEASE = {"id": "the lease", "domain": "regular", "expires_in": 600}
ENVIRONMENT = Verdict("broken", "environment")


class Scene:
    """A farm that gives the answers of a list, the last one repeatedly, and a clock that only waits move."""

    def __init__(self, *answers: Answer, forever: bool = True) -> None:
        self.answers = list(answers)
        self.now = 100.0
        self.pauses: list[float] = []
        self.bodies: list[dict[str, object]] = []
        settings = FarmSettings("http://farm.test", "token", "shop", "stage")
        self.line = ChoreLine(settings, {"ttl": 60}, forever=forever, now=lambda: self.now)

    def next(self) -> Grant | None:
        return self.carry_out(self.line.steps())

    def carry_out(self, steps: Steps[Result]) -> Result:
        transport = httpx.MockTransport(self._handle)
        with Connection("http://farm.test", "token", transport=transport) as farm:
            return carry_out(steps, farm, sleep=self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(json.loads(request.read()))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return answer(request)

    def nothing_is_due(self, _: httpx.Request) -> httpx.Response:
        self.now += float(str(self.bodies[-1]["wait_seconds"]))
        return problem(409, "pool-exhausted")


def problem(status: int, slug: str, **details: object) -> httpx.Response:
    return httpx.Response(status, json={"type": f"urn:botfarm:problem:{slug}", "detail": slug, **details})


def granted(_: httpx.Request) -> httpx.Response:
    return httpx.Response(201, json=LEASE)


def refused(_: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused")


def test_a_chore_is_a_lease_of_that_purpose_and_nobody_is_waited_for() -> None:
    scene = Scene(granted, forever=False)
    assert scene.next() is not None
    (body,) = scene.bodies
    assert (body["purpose"], body["project"], body["env"]) == ("chore", "shop", "stage")
    assert (body["ttl_seconds"], body["wait_seconds"]) == (60, 0)
    assert "domain" not in body  # the project's first


def test_the_loop_ends_when_nothing_is_due() -> None:
    scene = Scene(forever=False)
    scene.answers = [scene.nothing_is_due]
    assert scene.next() is None
    assert len(scene.bodies) == 1


def test_a_loop_that_runs_forever_waits_again_and_again() -> None:
    scene = Scene()
    scene.answers = [scene.nothing_is_due, scene.nothing_is_due, granted]
    assert scene.next() is not None
    assert [body["wait_seconds"] for body in scene.bodies] == [300, 300, 300]


def test_a_loop_that_runs_forever_outlives_a_farm_that_is_away_for_an_hour(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = Scene(granted)
    scene.next()
    back_at = scene.now + 3_600

    def away_for_an_hour(request: httpx.Request) -> httpx.Response:
        return granted(request) if scene.now >= back_at else refused(request)

    scene.answers = [away_for_an_hour]
    with caplog.at_level(logging.WARNING):
        assert scene.next() is not None
    assert caplog.text.count("the farm is asked again: cannot reach the farm at http://farm.test") == 1


def test_a_farm_that_was_never_reached_ends_the_loop() -> None:
    scene = Scene(refused)
    with pytest.raises(FarmUnreachableError):
        scene.next()
    assert 100 < scene.now < 130


def test_a_restart_of_the_farm_ends_no_loop() -> None:
    scene = Scene(lambda _: problem(503, "shutting-down"), granted, forever=False)
    assert scene.next() is not None
    scene.answers = [lambda _: problem(503, "shutting-down")]
    with pytest.raises(LostAnswerError):
        scene.next()


def test_a_refusal_ends_the_loop() -> None:
    scene = Scene(granted, lambda _: problem(403, "forbidden"))
    scene.next()
    with pytest.raises(ForbiddenError):
        scene.next()


def test_a_quota_is_waited_out_by_a_loop_that_runs_forever() -> None:
    full = problem(429, "quota-exceeded", held=1, max_leases=1, count=1)
    scene = Scene(*[lambda _: full] * 200, granted)
    assert scene.next() is not None
    once = Scene(lambda _: full, forever=False)
    with pytest.raises(QuotaExceededError):
        once.next()


def test_a_keeper_that_is_interrupted_before_it_has_its_chore_does_not_say_that_it_is_done() -> None:
    def interrupted(_: httpx.Request) -> httpx.Response:
        raise KeyboardInterrupt

    scene = Scene(interrupted)
    with pytest.raises(KeyboardInterrupt):
        scene.next()
    scene.answers = [granted]
    scene.carry_out(scene.line.taking_back())
    assert scene.bodies[-1] == {"outcome": "dirty", "note": scene.bodies[-1]["note"]}


@pytest.mark.parametrize("reason", ["environment", "rate_limited"])
def test_after_a_site_that_is_away_the_loop_rests_twice_as_long_each_time(reason: str) -> None:
    scene = Scene(granted)
    for _ in range(6):
        scene.next()
        scene.line.ended("u", Verdict("broken", reason))  # type: ignore[arg-type]
    scene.next()
    assert scene.pauses == [FIRST_REST, 60, 120, 240, LONGEST_REST, LONGEST_REST]
    scene.line.ended("u", Verdict("ok"))
    scene.next()
    scene.line.ended("u", ENVIRONMENT)
    scene.next()
    assert scene.pauses[6:] == [FIRST_REST]


def test_after_a_site_that_is_away_a_loop_that_is_not_forever_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = Scene(granted, forever=False)
    scene.next()
    scene.line.ended("u", ENVIRONMENT)
    with caplog.at_level(logging.WARNING):
        assert scene.next() is None
    assert (len(scene.bodies), scene.pauses) == (1, [])
    assert "the chores end early: the last one ended with environment" in caplog.text


def test_a_user_that_fails_again_and_again_is_not_tried_without_a_rest() -> None:
    scene = Scene(granted)
    for _ in range(TRIES):
        scene.next()
        scene.line.ended("rotten", Verdict("dirty"))
        scene.next()
        scene.line.ended("another", Verdict())
    assert scene.pauses == []
    scene.next()
    scene.line.ended("rotten", Verdict("dirty"))
    scene.next()
    assert scene.pauses == [FIRST_REST]
