"""Requests that are served out of order or too late are found and named."""

from datetime import timedelta
from typing import Any

import pytest

from chaos.checker import check
from chaos.checker.violations import Violation
from support.chaos_story import START, Story


def found(story: Story) -> list[Violation]:
    return check(*story.finish())


def the_one(story: Story, rule: str) -> str:
    (violation,) = found(story)
    assert violation.rule == rule, violation
    return str(violation)


class TestWaiting:
    def test_a_request_that_was_overtaken_is_found(self) -> None:
        story = Story()
        later = story.acquire("runner-2", 2, at=5, took=4, granted_at=8, wait=20)
        first = story.acquire("runner-1", 1, at=2, took=8, granted_at=9.5, wait=20)
        told = the_one(story, "waits in order")
        assert "runner-1 (arrived at 2026-01-05 08:00:02+00:00, priority 0)" in told
        assert f"got lease {first.id} 1.500 s after runner-2" in told
        assert later.id in told

    def test_a_request_that_is_served_at_almost_the_same_moment_is_clean(self) -> None:
        story = Story()
        story.acquire("runner-2", 2, at=5, took=4, granted_at=8, wait=20)
        story.acquire("runner-1", 1, at=2, took=8, granted_at=8.9, wait=20)
        assert found(story) == []

    @pytest.mark.parametrize(
        "why",
        [
            {"priority": 1},
            {"labels": "{'plan': 'paid'}"},
            {"requested_at": START + timedelta(seconds=2.4)},
        ],
    )
    def test_who_may_go_first_is_clean(self, why: dict[str, Any]) -> None:
        story = Story()
        story.acquire("runner-2", 2, at=5, took=4, granted_at=8, wait=20, **why)
        story.acquire("runner-1", 1, at=2, took=8, granted_at=9.5, wait=20)
        assert found(story) == []

    def test_a_place_that_was_kept_for_a_retry_may_be_overtaken(self) -> None:
        story = Story()
        story.call("runner-1", "acquire_lease", "POST", "/api/v1/leases", 2, took=4, key="k", error="cut")
        story.acquire("runner-2", 2, at=5, took=4, granted_at=8, wait=20)
        waiting = START + timedelta(seconds=2)
        story.acquire("runner-1", 1, at=8.5, took=1, granted_at=9.5, wait=20, key="k", requested_at=waiting)
        assert found(story) == []

    @pytest.mark.parametrize("origin", ["", "http://replica-1"])
    def test_the_order_around_a_fault_is_left_out(self, origin: str) -> None:
        story = Story()
        story.fault("pause", 3, 4, origin=origin)
        story.acquire("runner-2", 2, at=5, took=4, granted_at=8, wait=20)
        story.acquire("runner-1", 1, at=2, took=8, granted_at=9.5, wait=20)
        assert found(story) == []

    def test_a_fault_of_another_replica_excuses_nothing(self) -> None:
        story = Story()
        story.fault("pause", 3, 4, origin="http://replica-2")
        story.acquire("runner-2", 2, at=5, took=4, granted_at=8, wait=20)
        story.acquire("runner-1", 1, at=2, took=8, granted_at=9.5, wait=20)
        assert "runner-1" in the_one(story, "waits in order")

    def test_a_wait_that_is_granted_after_its_end_is_found(self) -> None:
        story = Story()
        lease = story.acquire("runner-1", 1, at=2, took=8, granted_at=9, wait=4)
        assert f"runner-1 got lease {lease.id} after 7" in the_one(story, "no late grant")

    def test_a_lease_of_a_key_that_was_refused_is_found(self) -> None:
        story = Story()
        path = "/api/v1/leases"
        story.problem("runner-1", "acquire_lease", path, 409, "pool-exhausted", at=1, took=5, key="k")
        lease = story.grant(1, at=7, key="k")
        assert f"key k was refused to runner-1, and has lease {lease.id}" in the_one(story, "no late grant")

    def test_a_refused_key_whose_earlier_answer_was_lost_may_have_a_lease(self) -> None:
        story = Story()
        story.call("runner-1", "acquire_lease", "POST", "/api/v1/leases", 0, key="k", error="cut")
        path = "/api/v1/leases"
        story.problem("runner-1", "acquire_lease", path, 409, "pool-exhausted", at=1, took=5, key="k")
        story.grant(1, at=7, key="k")
        assert found(story) == []
