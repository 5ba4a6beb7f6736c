"""A lease that was answered and is gone, or is another one in the database, is found and named."""

from dataclasses import replace

from chaos.checker.acknowledged import nothing_lost
from chaos.checker.seen import Seen
from chaos.checker.violations import Violation
from support.chaos_story import Story, lease_answer


def found(story: Story) -> list[Violation]:
    history, kept = story.finish()
    return list(nothing_lost(Seen(history), kept))


def the_one(story: Story) -> str:
    (violation,) = found(story)
    return str(violation)


def test_a_lease_that_is_gone_is_found() -> None:
    story = Story()
    lease = story.acquire("runner-1", 1, at=1)
    del story.kept.leases[lease.id]
    told = the_one(story)
    assert lease.id in told
    assert "runner-1" in told


def test_a_release_that_is_gone_is_found() -> None:
    story = Story()
    lease = story.acquire("runner-1", 1, at=1)
    story.release("runner-1", lease, at=2)
    story.kept.leases[lease.id] = replace(lease, ended_at=lease.expires_at, ended_by="expired")
    assert "runner-1 was told" in the_one(story)


def test_a_renewal_that_is_gone_is_found() -> None:
    story = Story()
    lease = story.acquire("runner-1", 1, at=1)
    story.renew("runner-1", lease, at=20)
    story.kept.leases[lease.id] = lease
    assert "20.000 to 20.010 s" in the_one(story)


def test_a_renewal_whose_answer_is_lost_may_be_there_or_not() -> None:
    story = Story()
    lease = story.acquire("runner-1", 1, at=1)
    story.renew("runner-1", lease, at=20, answered=False)
    assert found(story) == []
    story.kept.leases[lease.id] = replace(lease, ended_at=lease.expires_at, ended_by="expired")
    assert found(story) == []


def test_a_lease_with_another_fence_is_found() -> None:
    story = Story()
    lease = story.acquire("runner-1", 1, at=1)
    story.kept.leases[lease.id] = replace(lease, fence=lease.fence + 5)
    assert "has another fence or other users" in the_one(story)


def test_a_lease_with_other_users_is_found() -> None:
    story = Story()
    lease = story.acquire("runner-1", 1, 2, at=1)
    story.kept.leases[lease.id] = replace(lease, users=lease.users[:1])
    assert "has another fence or other users" in the_one(story)


def test_the_end_of_a_lease_that_is_gone_is_found() -> None:
    story = Story()
    lease = story.grant(1, at=1)
    story.release("runner-1", lease, at=2)
    del story.kept.leases[lease.id]
    assert f"lease {lease.id} is not in the database" in the_one(story)


def test_an_expiry_that_did_not_last_is_found() -> None:
    assert "(expired, None)" in the_one(told_expired())


def test_an_expiry_that_a_later_step_of_the_clock_undid_is_clean() -> None:
    story = told_expired()
    story.fault("database-clock", 30)
    assert found(story) == []


def told_expired() -> Story:
    """A manager is told that a lease has expired. Its holder releases it all the same."""
    story = Story()
    lease = story.grant(1, at=1, ttl=5)
    expired = story.end(lease, at=6)
    answer = lease_answer(expired, password=None)
    path = f"/api/v1/leases/{lease.id}/force_release"
    story.call(
        "manager",
        "force_release_lease",
        "POST",
        path,
        7,
        status=200,
        body={"reason": "it hangs"},
        answer=answer,
    )
    story.release("runner-1", replace(lease, ended_at=None), at=9)
    return story
