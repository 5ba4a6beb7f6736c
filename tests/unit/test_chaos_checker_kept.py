"""What the database must have kept of what was answered: each loss is found and named."""

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from chaos.checker import check
from chaos.checker.kept import Cap
from support.chaos_findings import found, the_one
from support.chaos_story import LOST, PROJECT, START, Story


class TestHoldersKnow:
    def test_a_live_lease_that_is_refused_is_found(self) -> None:
        story = Story()
        lease = story.acquire("runner-1", 1, at=1)
        refuse(story, lease.id, at=10)
        told = the_one(story, "no live lease is refused")
        assert "runner-1 was told lease-lapsed at 10.010 s" in told
        assert lease.id in told

    def test_a_lease_that_was_forced_released_or_lapsed_may_be_refused(self) -> None:
        story = Story()
        forced, released, lapsed = (story.acquire("runner-1", user, at=1) for user in (1, 2, 3))
        path = f"/api/v1/leases/{forced.id}/force_release"
        story.call("manager", "force_release_lease", "POST", path, 5, error=LOST)
        story.end(forced, at=5.1, by="forced")
        refuse(story, forced.id, at=10)
        story.release("runner-1", released, at=9)
        refuse(story, released.id, at=10)
        refuse(story, lapsed.id, at=61)
        assert found(story) == []

    def test_leases_that_a_step_of_the_clock_ended_may_be_refused(self) -> None:
        story = Story()
        lease = story.acquire("runner-1", 1, at=1)
        story.fault("database-clock", 5)
        refuse(story, lease.id, at=10)
        assert found(story) == []


class TestRetries:
    def retried(self, slug: str, *, at: float, key: str = "k", **body: Any) -> Story:
        """A runner holds a lease under a key from 1 s to 11 s, and its key is posted again."""
        story = Story()
        lease = story.acquire("runner-1", 1, at=1, ttl=10, key="k")
        asked = {**story.history.calls[-1].body, **body}
        status = 429 if slug == "quota-exceeded" else 409
        story.problem("runner-1", "acquire_lease", "/api/v1/leases", status, slug, at=at, key=key, body=asked)
        story.end(lease, at=11)
        return story

    @pytest.mark.parametrize("slug", ["pool-exhausted", "idempotency-key-ended"])
    def test_a_retry_that_is_refused_while_its_lease_is_live_is_found(self, slug: str) -> None:
        told = the_one(self.retried(slug, at=5), "no live lease is refused")
        assert f"runner-1 was told {slug} at 5.010 s under the key of lease" in told

    def test_a_retry_may_be_refused_when_the_lease_is_over_or_by_a_limit(self) -> None:
        assert found(self.retried("idempotency-key-ended", at=11)) == []
        assert found(self.retried("quota-exceeded", at=5)) == []

    def test_another_request_or_key_may_be_refused(self) -> None:
        assert found(self.retried("pool-exhausted", at=5, env="prod")) == []
        assert found(self.retried("pool-exhausted", at=5, key="other")) == []


def refuse(story: Story, lease_id: str, *, at: float) -> None:
    story.problem("runner-1", "renew_lease", f"/api/v1/leases/{lease_id}/renew", 410, "lease-lapsed", at=at)


class TestCaps:
    def test_more_users_than_a_token_may_hold_are_found(self) -> None:
        story = Story()
        story.kept.caps = [Cap("token:ci:1", 2)]
        story.grant(1, at=1, principal="token:ci:1")
        most = story.grant(2, 3, at=2, principal="token:ci:1")
        assert f"token:ci:1 held 3 users at {most.acquired_at}" in the_one(story, "caps kept")

    def test_a_grant_at_the_moment_of_a_release_is_clean(self) -> None:
        story = Story()
        story.kept.caps = [Cap("token:ci:1", 2)]
        first = story.grant(1, 2, at=1, principal="token:ci:1")
        story.end(first, at=2, by="released")
        story.grant(3, 4, at=2, principal="token:ci:1")
        story.grant(5, 6, at=2, principal="token:other:2")
        assert found(story) == []

    def renewed(self, *, renewal_took: float, ttl: int = 9) -> Story:
        """A lease that ends at 10 s is renewed from 9.9 s on. Meanwhile, at 10.5 s, another one is granted."""
        story = Story()
        story.kept.caps = [Cap("runners", 1)]
        lease = story.acquire("runner-1", 1, at=1, took=0, ttl=ttl)
        story.renew("runner-1", lease, at=9.9, took=renewal_took, renewed_at=9.95)
        story.acquire("runner-2", 2, at=10.4, took=0.2)
        return story

    def test_a_renewal_that_was_under_way_may_count_as_over(self) -> None:
        assert found(self.renewed(renewal_took=2)) == []

    def test_a_renewal_without_an_answer_may_count_as_over(self) -> None:
        story = self.renewed(renewal_took=0.1)
        answered = story.history.calls[1]
        story.history.calls[1] = replace(answered, status=None, answer=None, error=LOST)
        assert found(story) == []

    def test_a_grant_whose_answer_is_lost_is_found_too(self) -> None:
        story = Story()
        story.kept.caps = [Cap("runners", 1)]
        lease = story.acquire("runner-1", 1, at=1)
        story.renew("runner-1", lease, at=2)
        story.acquire("others-1", 3, at=29, principal="others")
        story.acquire("runner-2", 2, at=30, answered=False)
        story.acquire("others-1", 4, at=31, principal="others")
        assert "held 2 users" in the_one(story, "caps kept")

    def test_a_renewal_that_was_answered_counts(self) -> None:
        assert "held 2 users" in the_one(self.renewed(renewal_took=0.1), "caps kept")

    def test_a_lease_that_was_not_over_counts_though_it_was_being_renewed(self) -> None:
        assert "held 2 users" in the_one(self.renewed(renewal_took=2, ttl=20), "caps kept")

    def test_the_runs_of_a_rule_have_a_cap_together_and_one_each(self) -> None:
        story = Story()
        story.grant(1, at=1, principal="ci:web:run-1")
        story.grant(2, at=1, principal="ci:web:run-2")
        story.kept.caps = [Cap("ci:web:", 1)]
        assert found(story) == []
        story.kept.caps = [Cap("ci:web:", 1, together=True)]
        assert "ci:web:run-2 held 2 users" in the_one(story, "caps kept")


class TestRollups:
    def rolled_up(self, **columns: Any) -> Story:
        """Two leases, one of which goes on into the next hour."""
        story = Story()
        first = story.grant(1, 2, at=60, ttl=7200)
        story.end(first, at=3660, by="released", outcome="ok")
        story.kept.said = {first.fence: [{"outcome": "broken", "reason": "captcha"}]}
        second = story.grant(3, at=100)
        story.end(second, at=160)
        place = {"project_id": UUID(PROJECT), "env": "stage", "domain": "regular"}
        hours = [
            {"granted": 2, "busy_seconds": 7140.0, "ends": '{"expired": 1}'},
            {"granted": 0, "busy_seconds": 120.0, "ends": '{"ok": 1, "broken:captcha": 1}', **columns},
        ]
        story.kept.rollups = [
            {**place, "hour": START + timedelta(hours=number), **row} for number, row in enumerate(hours)
        ]
        story.kept.rolled_up_until = START + timedelta(hours=3)
        return story

    def test_rollups_that_leases_say_too_are_clean(self) -> None:
        assert check(*self.rolled_up().finish(at=20_000)) == []

    @pytest.mark.parametrize("wrong", [{"granted": 1}, {"busy_seconds": 119.0}, {"ends": '{"ok": 2}'}])
    def test_a_rollup_that_is_wrong_is_found(self, wrong: dict[str, Any]) -> None:
        (violation,) = check(*self.rolled_up(**wrong).finish(at=20_000))
        assert violation.rule == "rollups true"
        assert str(START + timedelta(hours=1)) in str(violation)

    def test_an_hour_without_a_rollup_is_found(self) -> None:
        story = self.rolled_up()
        del story.kept.rollups[1]
        assert "has leases and no rollup" in str(*check(*story.finish(at=20_000)))

    def test_an_hour_that_was_not_over_is_left_out(self) -> None:
        story = self.rolled_up(granted=1)
        story.kept.rolled_up_until = START + timedelta(seconds=3660)
        assert check(*story.finish(at=20_000)) == []
