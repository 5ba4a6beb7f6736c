"""Two holders of one user are found and named, and what only looks like two is not."""

import pytest

from chaos.checker.holding import nobody_twice
from chaos.checker.seen import Seen
from support.chaos_findings import found, the_one
from support.chaos_story import LOST, Story, user_id


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
        story.fault("delay", 1, 6)
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
        story.call("manager", "force_release_lease", "POST", path, 4.9, error=LOST)
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

    @pytest.mark.parametrize("stepped", [-8.0, 8.0])
    def test_a_clock_step_does_not_excuse_two_holders(self, stepped: float) -> None:
        story = Story()
        first = story.acquire("runner-1", 1, at=20)
        story.fault("database-clock", 23, stepped=stepped)
        story.end(first, at=24)
        story.acquire("runner-2", 1, at=25)
        assert "runner-2" in the_one(story, "nobody twice")

    def test_a_process_that_started_at_an_earlier_step_excuses_nothing(self) -> None:
        story = Story()
        story.fault("database-clock", 20, stepped=8)
        story.fault("kill", 21, origin="http://replica-1")
        first = story.acquire("runner-1", 1, at=190)
        story.fault("database-clock", 200, stepped=8)
        story.end(first, at=204)
        story.acquire("runner-2", 1, at=205)
        assert "runner-2" in the_one(story, "nobody twice")

    @pytest.mark.parametrize(("kind", "violations"), [("kill", 0), ("cut", 1)])
    def test_a_process_that_starts_after_a_step_forward_may_not_know_of_it(
        self, kind: str, violations: int
    ) -> None:
        story = Story()
        first = story.acquire("runner-1", 1, at=20)
        story.fault("database-clock", 23, stepped=8)
        story.fault(kind, 24, origin="http://replica-1")
        story.end(first, at=24)
        story.acquire("runner-2", 1, at=25)
        assert len(found(story)) == violations

    def test_a_hold_that_is_excused_hides_no_later_one(self) -> None:
        story = Story()
        first = story.acquire("runner-1", 1, at=1, ttl=300)
        story.fault("database-clock", 5, stepped=8)
        story.fault("kill", 6, origin="http://replica-1")
        story.end(first, at=19)
        second = story.acquire("runner-2", 1, at=20, ttl=30)
        story.end(second, at=21)
        story.acquire("runner-3", 1, at=30)
        told = the_one(story, "nobody twice")
        assert "held by runner-3" in told
        assert "by runner-2" in told

    def test_a_step_back_excuses_nobody_who_starts(self) -> None:
        story = Story()
        first = story.acquire("runner-1", 1, at=20)
        story.fault("database-clock", 23, stepped=-8)
        story.fault("kill", 24, origin="http://replica-1")
        story.end(first, at=24)
        story.acquire("runner-2", 1, at=25)
        assert "runner-2" in the_one(story, "nobody twice")

    @pytest.mark.parametrize(("at", "violations"), [(77.5, 1), (78.5, 0)])
    def test_a_step_of_two_seconds_may_end_a_hold_by_so_much(self, at: float, violations: int) -> None:
        story = Story()
        first = story.acquire("runner-1", 1, at=20)
        story.fault("database-clock", 23, stepped=0.5)
        story.end(first, at=77)
        story.acquire("runner-2", 1, at=at)
        assert len(found(story)) == violations

    def test_a_renewal_after_a_step_counts_in_full(self) -> None:
        story = Story()
        first = story.acquire("runner-1", 1, at=20)
        story.fault("database-clock", 23, stepped=8)
        story.fault("kill", 24, origin="http://replica-1")
        story.renew("runner-1", first, at=30)
        story.end(first, at=88)
        story.acquire("runner-2", 1, at=89)
        assert "runner-2" in the_one(story, "nobody twice")

    def test_a_lock_is_held_until_its_release_is_sent(self) -> None:
        story = Story()
        lock = story.acquire("lead-1", 1, at=1, operation="acquire_lock")
        story.end(lock, at=4, by="released")
        story.acquire("runner-1", 1, at=6)
        assert "held by runner-1" in the_one(story, "nobody twice")

    @pytest.mark.parametrize("named", [True, False])
    def test_a_release_of_a_lock_ends_the_hold(self, *, named: bool) -> None:
        story = Story()
        lock = story.acquire("lead-1", 1, at=1, operation="acquire_lock")
        story.end(lock, at=5, by="released")
        path = f"/api/v1/users/{user_id(1)}/release_lock"
        body = {"lease_id": lock.id} if named else {}
        story.call("lead-1", "release_lock", "POST", path, 4.9, body=body, error=LOST)
        story.acquire("runner-1", 1, at=6)
        assert found(story) == []

    def test_a_release_of_an_earlier_lock_or_of_another_token_ends_nothing(self) -> None:
        story = Story()
        path = f"/api/v1/users/{user_id(1)}/release_lock"
        story.problem("lead-1", "release_lock", path, 410, "lease-lapsed", at=0.5)
        lock = story.acquire("lead-1", 1, at=1, operation="acquire_lock")
        story.problem("other-1", "release_lock", path, 403, "not-the-holder", at=2, principal="others")
        story.end(lock, at=4, by="released")
        story.acquire("runner-1", 1, at=6)
        assert "held by runner-1" in the_one(story, "nobody twice")

    def test_each_user_that_comes_to_another_runner_is_counted(self) -> None:
        story = Story()
        first = story.acquire("runner-1", 1, 2, at=1)
        story.release("runner-1", first, at=5)
        story.acquire("runner-2", 1, 2, at=6)
        seen = Seen(story.finish()[0])
        assert not list(nobody_twice(seen, story.kept))
        assert seen.compared["nobody twice"] == 4  # by the holders and by the database
