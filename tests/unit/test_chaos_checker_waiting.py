"""Requests that are served out of order, too late or not at all are found and named."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from chaos.checker import examine
from chaos.checker.late_grants import no_late_grant
from chaos.checker.seen import Seen
from chaos.checker.waiting import waits_in_order
from chaos.history import BROKEN_OFF
from support.chaos_findings import found, the_one
from support.chaos_story import LOST, START, Story, lease_answer


def overtake(story: Story, **first: Any) -> None:
    """The second runner gets a user at 8, and the first, who came earlier, at 9.5."""
    story.acquire("runner-2", 2, at=5, took=3.01, granted_at=8, wait=20)
    story.acquire("runner-1", 1, at=2, took=7.51, granted_at=9.5, wait=20, **first)


def refuse(story: Story, *, at: float, waited: float, slug: str = "pool-exhausted", **body: Any) -> None:
    story.problem(
        "runner-1",
        "acquire_lease",
        "/api/v1/leases",
        409,
        slug,
        at=at,
        took=waited,
        body={"project": "shop", "env": "stage", "wait_seconds": waited, **body},
        details={"waited": waited},
    )


def compared(story: Story, rule: str) -> int:
    history, kept = story.finish()
    seen = Seen(history)
    check_one = {"waits in order": waits_in_order, "no late grant": no_late_grant}[rule]
    assert list(check_one(seen, kept)) == []
    return seen.compared[rule]


class TestWaitsInOrder:
    def test_a_request_that_was_overtaken_is_found(self) -> None:
        story = Story()
        overtake(story)
        told = the_one(story, "waits in order")
        other, first = story.kept.leases
        assert f"runner-2 (asked at 5.000 s, priority 0) got lease {other}" in told
        assert "runner-1 (asked at 2.000 s, priority 0), who waited" in told
        assert f"got lease {first} 1.490 s after that" in told

    def test_a_request_that_was_refused_while_a_later_one_was_served_is_found(self) -> None:
        story = Story()
        refuse(story, at=2, waited=8)
        story.acquire("runner-2", 2, at=5, took=2, wait=20)
        assert "runner-1 (asked at 2.000 s, priority 0), who waited, got none" in the_one(
            story, "waits in order"
        )

    def test_a_request_that_does_not_wait_and_overtakes_is_found(self) -> None:
        story = Story()
        refuse(story, at=2, waited=8)
        story.acquire("runner-2", 2, at=5)
        assert "runner-2" in the_one(story, "waits in order")

    def test_a_request_for_more_than_the_one_that_it_overtakes_is_found(self) -> None:
        story = Story()
        refuse(story, at=2, waited=8)
        story.acquire("runner-2", 2, 3, at=5)
        assert "runner-2" in the_one(story, "waits in order")

    @pytest.mark.parametrize(
        ("wanted", "violations"), [("paid", 1), (["free", "paid"], 1), ("free", 0), (["free", "trial"], 0)]
    )
    def test_a_grant_to_anybody_of_a_user_with_the_wanted_label_is_compared(
        self, wanted: str | list[str], violations: int
    ) -> None:
        story = Story()
        refuse(story, at=2, waited=8, labels={"plan": wanted})
        lease = story.acquire("runner-2", 2, at=5)
        story.history.calls.pop()
        answer = lease_answer(lease)
        answer["users"][0]["labels"] = {"plan": "paid"}
        story.answer("runner-2", lease, at=5, answer=answer)
        assert len(found(story)) == violations

    def test_a_lower_priority_that_came_earlier_and_is_served_first_is_found(self) -> None:
        story = Story()
        story.acquire("runner-2", 2, at=1, took=7.01, granted_at=8, wait=20)
        refuse(story, at=2, waited=8, priority=1)
        assert "runner-1 (asked at 2.000 s, priority 1)" in the_one(story, "waits in order")

    def test_waits_for_other_users_are_not_compared(self) -> None:
        story = Story()
        for wanted in ({"labels": {"plan": "paid"}}, {"count": 2}, {"user": "a@shop.test"}, {"env": "dev"}):
            refuse(story, at=2, waited=8, **wanted)
        refuse(story, at=2, waited=8, purpose="chore")
        refuse(story, at=2, waited=8, slug="wait-superseded")
        story.acquire("runner-2", 2, at=5, took=2, wait=20)
        assert compared(story, "waits in order") == 0

    def test_a_wait_during_which_an_earlier_request_was_served_is_compared(self) -> None:
        story = Story()
        story.acquire("runner-2", 2, at=1, took=7.01, granted_at=8, wait=20)
        refuse(story, at=2, waited=8)
        assert compared(story, "waits in order") == 1

    def test_a_request_that_is_served_at_almost_the_same_moment_is_clean(self) -> None:
        story = Story()
        story.acquire("runner-2", 2, at=5, took=3.01, granted_at=8, wait=20)
        story.acquire("runner-1", 1, at=2, took=7, granted_at=8.9, wait=20)
        assert found(story) == []

    @pytest.mark.parametrize("why", [{"priority": 1}, {"at": 2.9, "took": 5.11}])
    def test_who_may_go_first_is_clean(self, why: dict[str, Any]) -> None:
        story = Story()
        later: dict[str, Any] = {"at": 5, "took": 3.01, "granted_at": 8, "wait": 20, **why}
        story.acquire("runner-2", 2, **later)
        story.acquire("runner-1", 1, at=2, took=7.51, granted_at=9.5, wait=20)
        assert found(story) == []

    def test_a_place_that_was_kept_for_a_retry_may_be_overtaken(self) -> None:
        story = Story()
        story.call("runner-1", "acquire_lease", "POST", "/api/v1/leases", 2, took=4, key="k", error=LOST)
        story.acquire("runner-2", 2, at=5, took=3.01, granted_at=8, wait=20)
        waiting = {"requested_at": START + timedelta(seconds=2), "waited": 7.5}
        story.acquire("runner-1", 1, at=8.5, took=1, granted_at=9.5, wait=20, key="k", **waiting)
        assert found(story) == []

    @pytest.mark.parametrize("origin", ["", "http://replica-1"])
    @pytest.mark.parametrize(("began", "ended"), [(7, 12), (2.5, 5.5), (0, 3.5)])
    def test_a_request_may_be_overtaken_during_a_fault_and_shortly_after_it(
        self, origin: str, began: float, ended: float
    ) -> None:
        story = Story()
        story.fault("pause", began, ended, origin=origin)
        overtake(story)
        assert found(story) == []

    @pytest.mark.parametrize("origin", ["", "http://replica-1"])
    @pytest.mark.parametrize(("began", "ended"), [(4, 4.9), (-9, 1.9), (8.5, 9)])
    def test_a_fault_before_or_after_excuses_nothing(self, origin: str, began: float, ended: float) -> None:
        story = Story()
        story.fault("pause", began, ended, origin=origin)
        overtake(story)
        assert "runner-1" in the_one(story, "waits in order")

    @pytest.mark.parametrize(("began", "violations"), [(6.9, 1), (7.5, 0)])
    def test_a_fault_of_another_replica_may_keep_back_only_what_it_was_about_to_say(
        self, began: float, violations: int
    ) -> None:
        story = Story()
        story.fault("pause", began, 12, origin="http://replica-2")
        overtake(story)
        assert len(found(story)) == violations

    @pytest.mark.parametrize(("at", "violations"), [(-3, 1), (-1, 0), (3, 0), (9.2, 0), (10, 1)])
    def test_a_wait_during_a_step_of_the_clock_or_shortly_after_it_is_left_out(
        self, at: float, violations: int
    ) -> None:
        story = Story()
        story.fault("database-clock", at, stepped=-3)
        overtake(story)
        assert len(found(story)) == violations

    def test_a_grant_that_is_answered_after_a_step_of_the_clock_is_left_out(self) -> None:
        """Because of the step it seems to have been granted during the wait."""
        story = Story()
        story.fault("database-clock", 5, stepped=8)
        lease = story.acquire("runner-2", 2, at=4, answered=False, key="k", waited=17)
        refuse(story, at=16, waited=8, priority=10)
        story.answer("runner-2", lease, at=19, again=True)
        assert found(story) == []


def late(story: Story) -> list[str]:
    """Such an answer may come too late as well, which is another rule's."""
    return [str(each) for each in found(story) if each.rule == "no late grant"]


class TestNoLateGrant:
    def test_a_wait_that_is_granted_after_its_end_is_found(self) -> None:
        story = Story()
        lease = story.acquire("runner-1", 1, at=2, took=8, granted_at=9, wait=4)
        (told,) = late(story)
        assert f"runner-1 got lease {lease.id} after 7" in told

    def test_a_request_that_was_refused_and_has_a_lease_is_found(self) -> None:
        story = Story()
        refuse(story, at=1, waited=5)
        lease = story.grant(1, at=7, request_id=story.history.calls[-1].answer["request_id"])
        told = the_one(story, "no late grant")
        assert f"runner-1 was told that no user is free, and the same request got lease {lease.id}" in told

    def test_a_later_request_may_get_a_lease(self) -> None:
        story = Story()
        refuse(story, at=1, waited=5)
        story.acquire("runner-1", 1, at=7, request_id="b" * 32)
        assert found(story) == []

    @pytest.mark.parametrize(
        ("origin", "waited", "violations"),
        [
            ("http://replica-2", 9, 1),
            ("http://replica-1", 14, 0),
            ("http://replica-1", 15, 1),
            ("", 14, 0),
            ("", 15, 1),
        ],
    )
    def test_a_wait_may_be_longer_by_faults_of_its_own_and_six_seconds(
        self, origin: str, waited: float, violations: int
    ) -> None:
        """Two faults of a second, with four seconds of the wait and two of a busy machine."""
        story = Story()
        story.fault("cut", 3, 4, origin=origin)
        story.fault("cut", 5, 6, origin=origin)
        story.acquire("runner-1", 1, at=2, took=waited, granted_at=2 + waited, wait=4)
        assert len(late(story)) == violations

    def test_waits_and_refusals_are_counted(self) -> None:
        story = Story()
        story.acquire("runner-1", 1, at=1, wait=4)
        story.acquire("runner-1", 2, at=1)
        refuse(story, at=1, waited=5)
        assert compared(story, "no late grant") == 2


class TestAnsweredInTime:
    def test_a_request_that_gets_no_answer_is_found(self) -> None:
        story = Story()
        story.call("runner-1", "get_pools", "GET", "/api/v1/pools", 3, took=6.01, error="hung up after 6.0 s")
        assert "runner-1 got no answer of get_pools within 6.010 s" in the_one(story, "answered in time")

    def test_a_wait_that_gets_no_answer_is_found(self) -> None:
        story = Story()
        wait(story, took=16.01, error="hung up after 16.0 s")
        assert "got no answer of acquire_lease" in the_one(story, "answered in time")

    def test_a_connection_that_is_lost_is_found(self) -> None:
        story = Story()
        story.call("runner-1", "get_pools", "GET", "/api/v1/pools", 3, error="ReadError: reset by peer")
        assert "(ReadError: reset by peer)" in the_one(story, "answered in time")

    def test_a_refusal_long_after_the_wait_is_found(self) -> None:
        story = Story()
        refuse(story, at=2, waited=4)
        story.history.calls[-1] = replace(story.history.calls[-1], ended_at=8.1)
        told = the_one(story, "answered in time")
        assert "runner-1 asked to wait for 4.0 s, and was answered after 6.100 s" in told

    @pytest.mark.parametrize("origin", ["", "http://replica-1"])
    def test_a_fault_may_lose_or_delay_an_answer(self, origin: str) -> None:
        story = Story()
        story.fault("cut", 1, 2, origin=origin)
        wait(story, took=16.01, error="hung up after 16.0 s")
        assert found(story) == []

    def test_a_fault_of_another_replica_delays_no_answer(self) -> None:
        story = Story()
        story.fault("cut", 1, 2, origin="http://replica-2")
        wait(story, took=16.01, error="hung up after 16.0 s")
        the_one(story, "answered in time")

    @pytest.mark.parametrize(("took", "error"), [(15.9, "hung up after 15.9 s"), (16.5, BROKEN_OFF)])
    def test_who_hangs_up_early_or_is_broken_off_gets_none(self, took: float, error: str) -> None:
        story = Story()
        wait(story, took=took, error=error)
        assert found(story) == []
        assert examine(*story.finish()).compared["answered in time"] == 0


def wait(story: Story, *, took: float, error: str) -> None:
    """For a user, for ten seconds."""
    body = {"project": "shop", "env": "stage", "wait_seconds": 10}
    story.call("runner-1", "acquire_lease", "POST", "/api/v1/leases", 3, took=took, body=body, error=error)
