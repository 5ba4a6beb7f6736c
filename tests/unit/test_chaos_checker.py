"""Each broken promise is found and named, and what only looks like one is not."""

from dataclasses import replace

from chaos.checker import check
from chaos.checker.violations import Violation
from support.chaos_story import START, Story, user_id


def found(story: Story) -> list[Violation]:
    return check(*story.finish())


def the_one(story: Story, rule: str) -> str:
    (violation,) = found(story)
    assert violation.rule == rule, violation
    return str(violation)


class TestNobodyTwice:
    def test_one_after_the_other_is_clean(self) -> None:
        story = Story()
        first = story.acquire("runner-1", 1, at=1)
        story.release("runner-1", first, at=5)
        story.acquire("runner-2", 1, at=5)
        assert found(story) == []

    def test_a_user_of_two_runners_is_found(self) -> None:
        story = Story()
        first = story.acquire("runner-1", 1, 2, at=1)
        story.end(first, at=4, by="released")
        second = story.acquire("runner-2", 2, 3, at=5)
        told = the_one(story, "nobody twice")
        for each in (
            first.id,
            second.id,
            user_id(2),
            "runner-1",
            "runner-2",
            "5.000 to 5.010 s",
            "1.000 to 1.010 s",
        ):
            assert each in told
        assert user_id(1) not in told
        assert user_id(3) not in told

    def test_a_grant_in_the_same_moment_as_the_release_is_clean(self) -> None:
        story = Story()
        first = story.acquire("runner-1", 1, at=1)
        story.release("runner-1", first, at=5, took=2, ended_at=5.1)
        story.acquire("runner-2", 1, at=2, took=3.2, granted_at=5.15, wait=10)
        assert found(story) == []

    def test_a_release_whose_answer_is_lost_ends_the_hold(self) -> None:
        story = Story()
        first = story.acquire("runner-1", 1, at=1)
        story.release("runner-1", first, at=5, answered=False)
        story.acquire("runner-2", 1, at=6)
        assert found(story) == []

    def test_a_grant_whose_answer_is_lost_is_no_hold(self) -> None:
        story = Story()
        lost = story.acquire("runner-1", 1, at=1, answered=False)
        story.end(lost, at=2, by="released")
        story.acquire("runner-2", 1, at=3)
        assert found(story) == []

    def test_a_deadline_counts_from_before_the_request(self) -> None:
        story = Story()
        first = story.acquire("runner-1", 1, at=1, took=5, granted_at=1.1, ttl=10)
        story.end(first, at=11.1)
        story.acquire("runner-2", 1, at=11.2)
        assert found(story) == []

    def test_a_renewal_prolongs_a_hold(self) -> None:
        story = Story()
        first = story.acquire("runner-1", 1, at=1, ttl=10)
        story.renew("runner-1", first, at=8, ttl=10)
        story.end(first, at=11)
        story.acquire("runner-2", 1, at=12)
        assert "8.000 to 8.010 s" in the_one(story, "nobody twice")

    def test_a_renewal_that_is_answered_too_late_brings_nothing_back(self) -> None:
        story = Story()
        first = story.acquire("runner-1", 1, at=1, ttl=10)
        story.renew("runner-1", first, at=10, ttl=10, took=3)
        story.end(first, at=11.5)
        story.acquire("runner-2", 1, at=14)
        assert found(story) == []

    def test_a_retry_under_the_key_is_the_same_hold(self) -> None:
        story = Story()
        lease = story.acquire("runner-1", 1, at=1, key="k", answered=False)
        story.answer("runner-1", lease, at=3, again=True)
        assert found(story) == []

    def test_a_hold_ends_with_a_forced_release(self) -> None:
        story = Story()
        lease = story.acquire("runner-1", 1, at=1)
        story.end(lease, at=5, by="forced")
        path = f"/api/v1/leases/{lease.id}/force_release"
        story.call("manager", "force_release_lease", "POST", path, 4.9, error="connection lost")
        story.acquire("runner-2", 1, at=21)
        assert found(story) == []

    def test_a_refused_release_with_another_token_ends_nothing(self) -> None:
        story = Story()
        lease = story.acquire("runner-1", 1, at=1)
        story.end(lease, at=5, by="released")
        path = f"/api/v1/leases/{lease.id}/release"
        story.problem("other-1", "release_lease", path, 403, "not-the-holder", at=4.9, principal="others")
        story.acquire("runner-2", 1, at=6)
        assert "runner-2" in the_one(story, "nobody twice")

    def test_leases_that_overlap_in_the_database_are_found_without_any_answer(self) -> None:
        story = Story()
        story.grant(1, at=1)
        second = story.grant(1, at=50)
        assert f"lease {second.id}" in the_one(story, "nobody twice")

    def test_times_of_a_clock_that_was_stepped_back_are_not_compared(self) -> None:
        story = Story()
        first = story.acquire("runner-1", 1, at=20, ttl=10)
        story.release("runner-1", first, at=22)
        story.fault("database-clock", 23)
        story.acquire("runner-2", 1, at=24, granted_at=15)
        assert found(story) == []

    def test_a_clock_step_does_not_excuse_two_holders(self) -> None:
        story = Story()
        first = story.acquire("runner-1", 1, at=20)
        story.fault("database-clock", 23)
        story.end(first, at=24)
        story.acquire("runner-2", 1, at=25)
        assert "runner-2" in the_one(story, "nobody twice")


class TestFences:
    def test_a_fence_that_falls_is_found(self) -> None:
        story = Story()
        first = story.acquire("runner-1", 1, at=1)
        story.fence = -5
        second = story.acquire("runner-2", 2, at=2)
        told = the_one(story, "fences rise")
        assert first.id in told
        assert second.id in told

    def test_grants_in_flight_together_may_be_answered_in_any_order(self) -> None:
        story = Story()
        slow = story.acquire("runner-1", 1, at=1, took=3, granted_at=1.1)
        fast = story.acquire("runner-2", 2, at=1.5)
        assert slow.fence < fast.fence
        assert found(story) == []

    def test_a_retry_gives_an_old_fence_again(self) -> None:
        story = Story()
        lease = story.acquire("runner-1", 1, at=1, key="k", answered=False)
        story.acquire("runner-2", 2, at=2)
        story.answer("runner-1", lease, at=3, again=True)
        assert found(story) == []

    def test_fences_of_a_user_follow_the_clock_of_the_database(self) -> None:
        story = Story()
        later = story.grant(1, at=100)
        earlier = story.grant(1, at=1)
        story.kept.leases[later.id] = replace(later, ended_at=START, ended_by="forced")
        assert earlier.id in the_one(story, "fences rise")


class TestKeys:
    def test_two_leases_under_one_key_are_found(self) -> None:
        story = Story()
        first = story.acquire("runner-1", 1, at=1, key="k")
        second = story.acquire("runner-1", 2, at=2, key="k")
        story.kept.leases[second.id] = replace(second, principal="others")
        told = the_one(story, "one lease for a key")
        assert first.id in told
        assert second.id in told

    def test_one_key_of_two_tokens_is_two_keys(self) -> None:
        story = Story()
        story.acquire("runner-1", 1, at=1, key="k")
        story.acquire("runner-2", 2, at=2, key="k", principal="others")
        assert found(story) == []

    def test_two_leases_of_the_database_under_one_key_are_found(self) -> None:
        story = Story()
        story.grant(1, at=1, key="k")
        second = story.grant(2, at=2, key="k")
        assert second.id in the_one(story, "one lease for a key")

    def test_another_request_that_gets_the_lease_of_a_key_is_found(self) -> None:
        story = Story()
        lease = story.acquire("runner-1", 1, at=1, key="k")
        other = {"project": "other", "env": "stage", "count": 1}
        story.answer("runner-1", lease, at=2, again=True, body=other)
        assert "another request under key k" in the_one(story, "one lease for a key")


class TestAnswers:
    def test_a_500_is_found(self) -> None:
        story = Story()
        story.problem("runner-1", "acquire_lease", "/api/v1/leases", 500, "internal", at=1)
        assert "runner-1 got an answer of acquire_lease that is a 500" in the_one(story, "as documented")

    def test_documented_problems_and_lost_answers_are_clean(self) -> None:
        story = Story()
        story.problem("runner-1", "acquire_lease", "/api/v1/leases", 409, "pool-exhausted", at=1)
        story.problem("runner-1", "acquire_lease", "/api/v1/leases", 503, "database-unavailable", at=2)
        story.call("runner-1", "get_pools", "GET", "/api/v1/pools", 3, error="ConnectionResetError")
        assert found(story) == []

    def test_an_undocumented_status_is_found(self) -> None:
        story = Story()
        story.problem("runner-1", "get_pools", "/api/v1/pools", 410, "lease-lapsed", at=1)
        assert "status that is not documented" in the_one(story, "as documented")

    def test_an_undocumented_slug_is_found(self) -> None:
        story = Story()
        story.problem("runner-1", "acquire_lease", "/api/v1/leases", 409, "project-exists", at=1)
        assert "project-exists" in the_one(story, "as documented")

    def test_a_body_that_does_not_fit_is_found(self) -> None:
        story = Story()
        story.call(
            "person", "get_pools", "GET", "/api/v1/pools", 1, status=200, answer={"items": [{"env": 1}]}
        )
        assert "items.0" in the_one(story, "as documented")

    def test_a_traceback_on_the_page_is_found(self) -> None:
        story = Story()
        text = "Traceback (most recent call last): ..."
        story.call("person", "page", "GET", "/ui/pools", 1, status=200, answer=text, content_type="text/html")
        assert "traceback" in the_one(story, "as documented")
