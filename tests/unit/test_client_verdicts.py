"""What a holder says of its users, and what the release sends of it."""

from typing import Any

import httpx
import pytest

from botfarm_client import AsyncBotfarm, Botfarm
from botfarm_client.errors import LeaseLostError, SettingError
from botfarm_client.testing import FakeFarm

ALL = ("ok", None, None)
VerdictFields = tuple[str | None, str | None, str | None]


class LockedError(Exception): ...


class CaptchaError(LockedError): ...


def said(fake: FakeFarm) -> dict[str, VerdictFields]:
    """Of each user of the newest lease, by its login."""
    lease = fake.leases[-1]
    found = {}
    for user in lease.users:
        verdict: Any = lease.verdicts[user.id]
        found[user.login] = (verdict.get("outcome"), verdict.get("reason"), verdict.get("note"))
    return found


def test_a_mark_of_one_user_replaces_what_is_said_of_all(fake: FakeFarm, farm: Botfarm) -> None:
    with farm.lease(count=2) as lease:
        first, second = lease.users
        lease.mark(first, "dirty")
        lease.mark(first, "broken", reason="captcha", note="at sign-in")
        lease.release("dirty", "the cart is full", reason="data")
    assert said(fake) == {
        first.login: ("broken", "captcha", "at sign-in"),
        second.login: ("dirty", "data", "the cart is full"),
    }


def test_marks_are_sent_at_the_end_of_the_block_and_when_the_farm_is_closed(fake: FakeFarm) -> None:
    with fake.botfarm() as farm:
        with farm.lease(count=2) as lease:
            lease.users[0].mark("dirty", note="a full cart")
        assert said(fake)[lease.users[0].login] == ("dirty", None, "a full cart")
        farm.acquire().user.mark("broken", reason="mfa")
    assert (fake.leases[-1].outcome, fake.leases[-1].reason) == ("broken", "mfa")


async def test_tasks_mark_users_too(fake: FakeFarm) -> None:
    async with fake.async_botfarm() as farm, farm.lease(count=2) as lease:
        lease.mark(lease.users[1], "broken", reason="locked_out")
    assert said(fake)[lease.users[1].login] == ("broken", "locked_out", None)
    assert said(fake)[lease.users[0].login] == ALL


def test_the_mark_of_an_only_user_is_what_is_said_of_its_lease(fake: FakeFarm, farm: Botfarm) -> None:
    with farm.lease() as lease:
        lease.user.mark("dirty", reason="data")
    assert (fake.leases[0].outcome, fake.leases[0].reason) == ("dirty", "data")


@pytest.mark.parametrize(
    ("outcome", "reason", "message"),
    [
        ("fine", None, "no such outcome: 'fine'; there are ok, dirty, broken"),
        ("broken", "bad luck", "no such reason: 'bad luck'; there are credential_rejected, "),
        ("ok", "captcha", "a reason goes with the outcomes dirty and broken"),
        (None, "captcha", "a reason goes with the outcomes dirty and broken"),
    ],
)
def test_a_verdict_that_does_not_exist_is_refused_before_anything_is_sent(
    fake: FakeFarm, farm: Botfarm, outcome: Any, reason: Any, message: str
) -> None:
    lease = farm.acquire()
    asked: list[str] = []
    fake.on_answer = asked.append
    for say in (lease.user.mark, lease.release):
        with pytest.raises(ValueError, match=message):
            say(outcome, reason=reason)
    assert asked == []
    lease.release()
    assert fake.leases[0].outcome == "ok"


def test_a_user_of_another_lease_cannot_be_marked(farm: Botfarm) -> None:
    lease, other = farm.acquire(), farm.acquire()
    with pytest.raises(ValueError, match="this user is not of this lease"):
        lease.mark(other.user, "broken")
    lease.release()
    with pytest.raises(LeaseLostError, match="it was released"):
        lease.mark(lease.user, "broken")


def test_what_an_interrupted_release_said_is_said_when_the_farm_is_closed(fake: FakeFarm) -> None:
    answer = fake.transport.handle_request

    def interrupt(_: httpx.Request) -> httpx.Response:
        fake.transport.handle_request = answer  # type: ignore[method-assign]
        raise KeyboardInterrupt

    with fake.botfarm() as farm:
        lease = farm.acquire()
        fake.transport.handle_request = interrupt  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            lease.release("broken", reason="captcha")
        assert fake.leases[0].is_live
    assert (fake.leases[0].outcome, fake.leases[0].reason) == ("broken", "captcha")


@pytest.mark.parametrize(
    ("broken_on", "failure", "reason"),
    [
        (LockedError, CaptchaError, None),
        ([ValueError, CaptchaError], CaptchaError, None),
        ({CaptchaError: "captcha", LockedError: "locked_out"}, CaptchaError, "captcha"),
        ({CaptchaError: "captcha", LockedError: "locked_out"}, LockedError, "locked_out"),
    ],
)
def test_an_exception_may_have_a_reason(
    fake: FakeFarm, farm: Botfarm, broken_on: Any, failure: type[Exception], reason: str | None
) -> None:
    with pytest.raises(failure), farm.lease(broken_on=broken_on):
        raise failure("the password is pw-a")
    lease = fake.leases[0]
    assert (lease.outcome, lease.reason, lease.note) == ("broken", reason, failure.__name__)


def test_an_exception_says_nothing_of_the_others_when_a_user_was_marked_as_broken(
    fake: FakeFarm, farm: Botfarm
) -> None:
    def use(outcome: Any) -> None:
        with farm.lease(count=2, broken_on={CaptchaError: "captcha"}) as lease:
            lease.mark(lease.users[0], outcome)
            raise CaptchaError

    with pytest.raises(CaptchaError):
        use("broken")
    assert sorted(said(fake).values(), key=str) == [("broken", None, None), ALL]
    with pytest.raises(CaptchaError):
        use("dirty")
    assert sorted(said(fake).values(), key=str) == [
        ("broken", "captcha", "CaptchaError"),
        ("dirty", None, None),
    ]


def test_an_unknown_reason_of_an_exception_is_noticed_before_a_user_is_taken(
    fake: FakeFarm, farm: Botfarm
) -> None:
    wrong: Any = {CaptchaError: "bad luck"}
    with pytest.raises(SettingError, match="no such reason: 'bad luck'"), farm.lease(broken_on=wrong):
        raise AssertionError("it has begun")
    assert fake.leases == []


async def test_a_task_that_fails_has_the_same_reasons(fake: FakeFarm) -> None:
    async def use(farm: AsyncBotfarm) -> None:
        async with farm.lease(broken_on={CaptchaError: "captcha"}):
            raise CaptchaError

    async with fake.async_botfarm() as farm:
        with pytest.raises(CaptchaError):
            await use(farm)
    assert fake.leases[0].reason == "captcha"


def test_a_hold_does_not_wait(farm: Botfarm) -> None:
    with pytest.raises(SettingError, match="a hold does not wait"):
        farm.acquire(purpose="hold", wait=5)
