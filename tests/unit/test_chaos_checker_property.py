"""Random histories of a farm that keeps its promises are clean, and a fault that is planted in one is found."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from chaos.checker import check
from chaos.checker.holding import holds
from chaos.checker.kept import KeptLease
from chaos.checker.seen import Seen
from support.chaos_story import START, Story, user_id

USERS, RUNNERS = 3, 4
SHORTEST = 0.005
"""Seconds. Moments lie hundredths of a second apart. A shorter hold has none, but for an error of rounding."""
ACTIONS = ("acquire", "acquire", "acquire under a key", "renew", "release", "retry")


@dataclass
class Step:
    """What a runner does, and how its call lies around the moment at which the farm acts; in seconds."""

    runner: int
    what: str
    pause: float
    before: float
    after: float
    answered: bool
    ttl: int


def seconds(most: int) -> st.SearchStrategy[float]:
    return st.integers(1, most * 100).map(lambda hundredths: hundredths / 100)


STEPS = st.lists(
    st.builds(
        Step,
        runner=st.integers(0, RUNNERS - 1),
        what=st.sampled_from(ACTIONS),
        pause=seconds(3),
        before=seconds(3),
        after=seconds(3),
        answered=st.sampled_from([True, True, True, False]),
        ttl=st.integers(1, 10),
    ),
    min_size=5,
    max_size=60,
)


@dataclass
class Farm:
    """One that grants a user only when its last lease has ended. Its clock is that of the clients."""

    story: Story = field(default_factory=Story)
    last: dict[int, str] = field(default_factory=dict)
    """By user, its last lease."""
    held: dict[int, str] = field(default_factory=dict)
    """By runner, the lease that it got last."""
    moment: float = 0.0

    def play(self, steps: list[Step]) -> Story:
        """A runner calls when its call before is over; the farm acts on one call after the other."""
        self.story.fault("delay", 0, 1000)
        over = [0.0] * RUNNERS
        for step in steps:
            self.moment = max(self.moment + step.pause, over[step.runner] + 0.01)
            sent_at = max(over[step.runner], self.moment - step.before)
            over[step.runner] = self.moment + step.after
            self._act(step, sent_at, over[step.runner] - sent_at)
        return self.story

    def _act(self, step: Step, at: float, took: float) -> None:
        runner, lease = f"runner-{step.runner}", self.story.kept.leases.get(self.held.get(step.runner, ""))
        if step.what.startswith("acquire"):
            self._acquire(step, runner, at, took)
        elif lease is None or not self._is_live(lease):
            return
        elif step.what == "renew":
            self.story.renew(
                runner, lease, at=at, ttl=step.ttl, took=took, answered=step.answered, renewed_at=self.moment
            )
        elif step.what == "release":
            self.story.release(runner, lease, at=at, took=took, answered=step.answered, ended_at=self.moment)
        elif lease.key is not None:
            left = (lease.expires_at - self._now).total_seconds()
            self.story.answer(
                runner, lease, at=at, took=took, answered=step.answered, again=True, expires_in=left
            )

    def _acquire(self, step: Step, runner: str, at: float, took: float) -> None:
        leases = self.story.kept.leases
        free = [
            user
            for user in range(USERS)
            if user not in self.last or not self._is_live(leases[self.last[user]])
        ]
        if free:
            lease = self.story.acquire(
                runner,
                free[0],
                at=at,
                took=took,
                ttl=step.ttl,
                granted_at=self.moment,
                answered=step.answered,
                waited=0.0,
                key=None if step.what == "acquire" else f"key-{len(leases)}",
            )
            self.last[free[0]] = self.held[step.runner] = lease.id

    @property
    def _now(self) -> datetime:
        return START + timedelta(seconds=self.moment)

    def _is_live(self, lease: KeptLease) -> bool:
        return lease.ended_at is None and lease.expires_at > self._now


def told(story: Story, rule: str) -> str:
    return "\n".join(str(each) for each in check(*story.finish()) if each.rule == rule)


@given(STEPS)
@settings(max_examples=100)
def test_a_farm_that_keeps_its_promises_is_clean(steps: list[Step]) -> None:
    assert check(*Farm().play(steps).finish()) == []


@given(STEPS, st.data())
@settings(max_examples=100)
def test_a_second_holder_is_found(steps: list[Step], data: st.DataObject) -> None:
    """Though the database, which has ended the first lease, says that all is well."""
    story = Farm().play(steps)
    known = [hold for hold in holds(Seen(story.history)) if hold.until - hold.since > SHORTEST]
    assume(known)
    hold = data.draw(st.sampled_from(known))
    at = hold.since + (hold.until - hold.since) * data.draw(st.floats(0.01, 0.9))
    story.end(story.kept.leases[hold.lease], at=hold.since)
    number = next(number for number in range(USERS) if user_id(number) == hold.users[0])
    second = story.acquire("runner-9", number, at=at, took=min(0.01, (hold.until - at) / 2))
    found = told(story, "nobody twice")
    assert f"held by runner-9 with lease {second.id}" in found
    assert hold.lease in found


@given(STEPS, st.data())
@settings(max_examples=100)
def test_a_fence_that_does_not_rise_is_found(steps: list[Step], data: st.DataObject) -> None:
    story = Farm().play(steps)
    granted = [call for _, call in Seen(story.history).granted()]
    pairs = [(first, second) for first in granted for second in granted if first.ended_at < second.sent_at]
    pairs = [pair for pair in pairs if pair[1].key is None]
    assume(pairs)
    first, second = data.draw(st.sampled_from(pairs))
    lease = story.kept.leases[second.answer["id"]]
    fence = first.answer["fence"] - data.draw(st.integers(0, 3))
    story.kept.leases[lease.id] = replace(lease, fence=fence)
    for call in story.history.calls:
        if call.status and call.answer["id"] == lease.id:
            call.answer["fence"] = fence
    assert f"lease {lease.id}" in told(story, "fences rise")


@given(STEPS, st.data())
@settings(max_examples=100)
def test_a_second_lease_of_a_key_is_found(steps: list[Step], data: st.DataObject) -> None:
    story = Farm().play(steps)
    keys = [call.key for _, call in Seen(story.history).granted() if call.key]
    assume(keys)
    key = data.draw(st.sampled_from(keys))
    second = story.acquire("runner-9", USERS + 1, at=data.draw(st.floats(0, 500)), key=key)
    found = told(story, "one lease for a key")
    assert f"key {key} of runners gave" in found
    assert second.id in found
