"""Each broken promise is found and named, and what only looks like one is not."""

from dataclasses import replace

from support.chaos_findings import found, the_one
from support.chaos_story import LOST, START, Story


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
        slow = story.acquire("runner-1", 1, at=1, took=1.5, granted_at=1.1)
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

    def test_one_lease_under_two_keys_is_found(self) -> None:
        story = Story()
        lease = story.acquire("runner-1", 1, at=1, key="k")
        story.answer("runner-1", lease, at=2, again=True, key="other")
        told = the_one(story, "one lease for a key")
        assert f"lease {lease.id} was answered under key other of runners and k of runners" in told

    def test_a_lease_that_the_database_has_under_another_key_is_found(self) -> None:
        story = Story()
        lease = story.acquire("runner-1", 1, at=1, key="k")
        story.kept.leases[lease.id] = replace(lease, key="other")
        told = the_one(story, "one lease for a key")
        assert f"lease {lease.id} was answered under key k, the database has other" in told

    def test_a_key_that_is_posted_to_two_replicas_at_once_and_once_more_is_clean(self) -> None:
        story = Story()
        lease = story.acquire("runner-1", 1, at=1, took=2, granted_at=2, wait=5, key="k")
        path = "/api/v1/leases"
        story.problem("runner-1", "acquire_lease", path, 409, "wait-superseded", at=1, took=1, key="k")
        story.answer("runner-1", lease, at=3, again=True, wait=5)
        assert found(story) == []


class TestAnswers:
    def test_a_500_is_found(self) -> None:
        story = Story()
        story.problem("runner-1", "acquire_lease", "/api/v1/leases", 500, "internal", at=1)
        assert "runner-1 got an answer of acquire_lease that is a 500" in the_one(story, "as documented")

    def test_documented_problems_and_lost_answers_are_clean(self) -> None:
        story = Story()
        story.problem("runner-1", "acquire_lease", "/api/v1/leases", 409, "pool-exhausted", at=1)
        story.problem("runner-1", "acquire_lease", "/api/v1/leases", 503, "database-unavailable", at=2)
        story.call("runner-1", "get_pools", "GET", "/api/v1/pools", 3, error=LOST)
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
