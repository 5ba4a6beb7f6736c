"""When a lease is renewed, and when it is lost, by a clock that the test moves."""

from itertools import pairwise
from typing import Any

import pytest

from botfarm_client.connection.api_calls import Call
from botfarm_client.connection.retrying import Pause
from botfarm_client.errors import (
    BotfarmError,
    FarmUnreachableError,
    LeaseLostError,
    UnexpectedAnswerError,
    problem_error,
)
from botfarm_client.leasing.acquiring import Grant
from botfarm_client.leasing.holder_requests import release_steps, renewal_steps
from botfarm_client.leasing.lease_clock import LONGEST_MARGIN, TICK, LeaseClock, Renewal
from botfarm_client.leasing.verdicts import Verdict

UNREACHABLE = FarmUnreachableError("cannot reach the farm")
LAPSED = problem_error(410, {"type": "urn:botfarm:problem:lease-lapsed"})
DENIED = problem_error(401, {"type": "urn:botfarm:problem:unauthenticated", "detail": "Send a valid token."})


class Scene:
    """A lease that was requested at the time 1000."""

    def __init__(self, ttl: float = 900) -> None:
        self.now = 1000.0
        self.hold = LeaseClock(
            Grant(lease(ttl), asked_at=1000.0, pool="shop/stage/regular"), now=lambda: self.now
        )

    def at(self, now: float) -> LeaseClock:
        self.now = 1000.0 + now
        return self.hold

    def renewal_at(self, now: float) -> Renewal:
        renewal = self.at(now).due()
        assert renewal is not None
        return renewal


def lease(expires_in: float, *, capped: bool = False) -> dict[str, Any]:
    expires_at, hold_until = ("same", "same") if capped else ("sooner", "later")
    return {"id": "x", "expires_in": expires_in, "expires_at": expires_at, "hold_until": hold_until}


def test_a_lease_is_renewed_after_a_third_of_its_ttl() -> None:
    scene = Scene(ttl=900)
    assert scene.at(299).due() is None
    renewal = scene.renewal_at(300)
    assert (renewal.call.method, renewal.call.path) == ("POST", "/leases/x/renew")
    assert scene.at(301).due() is None, "one is under way"


def test_the_age_counts_from_the_moment_before_the_request_was_sent() -> None:
    scene = Scene(ttl=900)
    renewal = scene.renewal_at(300)
    scene.at(320).renewed(lease(900), renewal.asked_at)  # the request took twenty seconds
    assert scene.hold.expires_in == 900 - 20
    assert scene.at(599).due() is None
    assert scene.at(600).due() is not None


@pytest.mark.parametrize(("ttl", "lost_at"), [(900, 900 - LONGEST_MARGIN), (10, 9), (2, 1.8)])
def test_a_lease_is_lost_a_margin_before_the_farm_ends_it(ttl: float, lost_at: float) -> None:
    scene = Scene(ttl)
    assert scene.at(lost_at - 0.01).look() is None
    loss = scene.at(lost_at).look()
    assert loss is not None
    assert "lease x is lost: it was not renewed for" in str(loss)
    with pytest.raises(LeaseLostError):
        scene.hold.check()


def test_after_a_jump_of_the_clock_a_lease_is_lost_before_anything_else() -> None:
    scene = Scene(ttl=900)
    asleep = scene.at(3600)
    assert "this machine or process stood still" in str(asleep.look())
    assert asleep.due() is None, "nothing is renewed any more"


def test_a_short_jump_only_makes_the_renewal_due() -> None:
    scene = Scene(ttl=900)
    assert scene.at(800).look() is None
    assert scene.hold.due() is not None


def test_a_machine_that_sleeps_is_noticed_within_a_second_after_it_woke() -> None:
    assert Scene(ttl=900).hold.rest() == TICK


def test_a_renewal_that_fails_is_tried_again_until_the_lease_is_lost() -> None:
    scene = Scene(ttl=30)
    times = []
    now = 10.0
    while scene.at(now).look() is None:
        if scene.hold.due():
            times.append(now)
            scene.hold.not_renewed(UNREACHABLE)
        now += 0.01
    assert len(times) > 5
    assert all(later - earlier <= 3.02 for earlier, later in pairwise(times))
    assert "not renewed for 27 s (cannot reach the farm)" in str(scene.hold.loss)


@pytest.mark.parametrize("answer", [{"status": "maintenance"}, {"expires_in": None}, {"expires_in": "soon"}])
def test_an_answer_that_is_no_lease_renews_nothing(answer: dict[str, Any]) -> None:
    scene = Scene(ttl=30)
    renewal = scene.renewal_at(10)
    with pytest.raises(UnexpectedAnswerError, match="no farm, its lease has no expires_in") as raised:
        scene.hold.renewed(answer, renewal.asked_at)
    scene.hold.not_renewed(raised.value)
    assert scene.at(20).due() is not None
    renewing = renewal_steps(scene.hold, None)
    next(renewing)
    with pytest.raises(UnexpectedAnswerError):
        renewing.send(answer)


def test_a_revoked_token_is_named_when_the_lease_is_lost() -> None:
    scene = Scene(ttl=30)
    scene.renewal_at(10)
    scene.hold.not_renewed(DENIED)
    assert "Send a valid token" in str(scene.at(29).look())


def test_a_lease_that_the_farm_has_ended_is_lost_at_once() -> None:
    scene = Scene()
    scene.renewal_at(300)
    scene.hold.not_renewed(LAPSED)
    assert "the farm has ended it" in str(scene.hold.look())


def test_a_lost_lease_stays_lost() -> None:
    scene = Scene(ttl=30)
    renewal = scene.renewal_at(10)
    assert scene.at(28).look() is not None
    scene.hold.renewed(lease(30), renewal.asked_at)  # it was in flight all the time
    assert scene.at(29).look() is not None


def test_answers_that_come_in_another_order_shorten_nothing() -> None:
    scene = Scene(ttl=30)
    scene.at(11).renewed(lease(30), asked_at=1010.5)
    scene.at(12).renewed(lease(30), asked_at=1005)
    assert scene.at(12).expires_in == 10.5 + 30 - 12


def test_at_max_hold_the_holder_is_told_why() -> None:
    scene = Scene(ttl=600)
    scene.at(300).renewed(lease(400, capped=True), asked_at=1300)
    scene.at(600).renewed(lease(100, capped=True), asked_at=1600)
    assert scene.at(689).look() is None, "the margin does not shrink with what is left"
    assert "max_hold" in str(scene.at(690).look())


def carry_out(lease_clock: LeaseClock, *answers: dict[str, Any] | BotfarmError) -> list[Call | Pause]:
    """The steps of a release that gets these answers. Raises its last exception."""
    steps, done = release_steps(lease_clock, Verdict("ok")), []
    step: Call | Pause = next(steps)
    for answer in answers:
        done.append(step)
        try:
            step = steps.throw(answer) if isinstance(answer, BotfarmError) else steps.send(answer)
        except StopIteration:
            break
        if isinstance(step, Pause):
            done.append(step)
            step = steps.send({})
    return done


def test_a_release_is_retried_and_a_released_lease_is_neither_lost_nor_renewed() -> None:
    scene = Scene()
    first, pause, second = carry_out(scene.hold, UNREACHABLE, {})
    assert first == second
    assert isinstance(pause, Pause)
    assert scene.at(10_000).look() is None
    assert scene.hold.due() is None


def test_a_release_that_finds_the_lease_ended_says_so() -> None:
    scene = Scene()
    with pytest.raises(LeaseLostError, match="the farm has ended it"):
        carry_out(scene.at(100), LAPSED)


def test_a_lease_that_ends_while_its_release_cannot_be_told_was_not_lost() -> None:
    scene = Scene(ttl=30)
    steps = release_steps(scene.at(25), Verdict())
    next(steps)
    scene.at(32)
    with pytest.raises(StopIteration):
        steps.throw(LAPSED)
    assert scene.hold.loss is None


def test_a_lost_lease_is_released_once_without_retries() -> None:
    scene = Scene(ttl=30)
    with pytest.raises(FarmUnreachableError):
        carry_out(scene.at(60), UNREACHABLE)


def test_a_release_that_was_interrupted_can_be_made_again() -> None:
    scene = Scene()
    steps = release_steps(scene.hold, Verdict())
    next(steps)
    steps.close()
    assert not scene.hold.is_released
    assert scene.at(600).due() is None, "nobody wants it any more"
    assert len(carry_out(scene.hold, {})) == 1


def test_a_release_that_was_interrupted_and_never_made_again_ends_as_a_loss() -> None:
    scene = Scene()
    steps = release_steps(scene.hold, Verdict())
    next(steps)
    steps.close()
    assert "its release was interrupted" in str(scene.at(900).look())


def test_a_renewal_that_finds_the_lease_released_meanwhile_says_so() -> None:
    scene = Scene()
    renewing = renewal_steps(scene.hold, None)
    next(renewing)
    carry_out(scene.hold, {})
    with pytest.raises(LeaseLostError, match="it was released"):
        renewing.throw(LAPSED)
