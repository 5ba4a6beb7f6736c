"""What a farm must not be left with when a run is over."""

from datetime import timedelta
from typing import Any

import pytest

from chaos.checker import check
from chaos.checker.violations import Violation
from chaos.history import BREAKDOWN
from support.chaos_story import LOST, START, Story, user_id


def found(story: Story) -> list[Violation]:
    return check(*story.finish())


def the_one(story: Story) -> str:
    (violation,) = found(story)
    assert violation.rule == "all free at the end", violation
    return str(violation)


def test_a_lease_that_is_live_at_the_end_is_found() -> None:
    story = Story()
    lease = story.acquire("runner-1", 1, at=1, ttl=2000)
    told = the_one(story)
    assert lease.id in told
    assert "runner-1" in told


def test_a_ticket_that_is_left_is_found() -> None:
    story = Story()
    story.kept.tickets = [{"id": 7, "principal": "runners", "replica": None, "deadline": START}]
    assert "ticket 7" in the_one(story)


@pytest.mark.parametrize(
    ("age", "fault_at", "violations"),
    [(110, None, 0), (130, None, 1), (130, 990, 0), (130, 500, 1), (190, 990, 1)],
)
def test_a_ticket_may_be_left_for_a_minute_more_if_a_fault_may_have_failed_its_pruning(
    age: int, fault_at: float | None, violations: int
) -> None:
    story = Story()
    story.renew(
        "runner-1", story.acquire("runner-1", 1, at=1, ttl=998), at=998, ttl=1
    )  # the run goes on until then
    deadline = START + timedelta(seconds=1000 - age)
    story.kept.tickets = [{"id": 7, "principal": "runners", "replica": None, "deadline": deadline}]
    if fault_at is not None:
        story.fault("terminate", fault_at)
    assert len([each for each in found(story) if "ticket 7" in str(each)]) == violations


@pytest.mark.parametrize(("is_stepped", "violations"), [(False, 1), (True, 0)])
def test_a_ticket_that_waits_is_found_unless_a_step_of_the_clock_may_have_prolonged_it(
    *, is_stepped: bool, violations: int
) -> None:
    story = Story()
    later = START + timedelta(hours=1)
    story.kept.tickets = [{"id": 7, "principal": "runners", "replica": "one", "deadline": later}]
    if is_stepped:
        story.fault("database-clock", 5)
    assert len(found(story)) == violations


def test_a_user_that_rests_for_ever_is_found() -> None:
    story = Story()
    story.user(user_id(1), available_at=START + timedelta(days=1))
    assert user_id(1) in the_one(story)


@pytest.mark.parametrize("status", ["dirty", "quarantined"])
@pytest.mark.parametrize("by", ["operator:ann", "policy", None])
def test_a_user_that_was_not_restored_is_found(status: str, by: str | None) -> None:
    story = Story()
    story.user(user_id(1), status=status, status_by=by)
    change_many(story, "restore", {"state": status})
    assert f"is {status} by {by}" in the_one(story)


def test_a_user_that_nobody_retired_is_found() -> None:
    story = Story()
    story.user(user_id(1), status="retired", status_by="operator:ann", labels='{"imported": "no"}')
    change_many(story, "retire", {"labels": {"imported": "yes"}})
    change_many(story, "retire", {"labels": {"imported": "no"}}, dry_run=True)
    change_many(story, "label", {"labels": {"imported": "no"}})
    path = f"/api/v1/users/{user_id(2)}/retire"
    story.call("person", "retire_user", "POST", path, 1, error=LOST, body={"reason": "old"})
    apply_file(story, prune=True)
    assert "no call did so" in the_one(story)


def test_a_user_that_somebody_may_have_retired_is_clean() -> None:
    story = Story()
    for number in range(1, 5):
        story.user(user_id(number), status="retired", status_by="operator:ann", labels='{"imported": "no"}')
    story.user(user_id(1), labels='{"imported": "yes"}')
    change_many(story, "retire", {"labels": {"imported": "yes"}})
    path = f"/api/v1/users/{user_id(2)}/retire"
    story.call("person", "retire_user", "POST", path, 1, error=LOST, body={"reason": "old"})
    form = f"/ui/users/{user_id(3)}/retire"
    story.call("reader", "page", "POST", form, 1, status=303, content_type="", body={"reason": "old"})
    story.user(user_id(4), managed_by="farm")
    apply_file(story, prune=True)
    assert found(story) == []


def test_a_file_that_does_not_prune_retires_nobody() -> None:
    story = Story()
    story.user(user_id(1), status="retired", status_by="operator:ann", managed_by="farm")
    apply_file(story, prune=False)
    assert "no call did so" in the_one(story)


def test_what_broke_down_is_named() -> None:
    story = Story()
    story.fault(BREAKDOWN, 5, note="ended by itself, with 1")
    assert "somewhere ended by itself, with 1 (5.000 to 5.000 s)" in the_one(story)


def change_many(story: Story, action: str, chosen: dict[str, Any], **more: Any) -> None:
    body = {"action": action, "filter": chosen, **more}
    story.call("person", "change_users", "POST", "/api/v1/users/bulk", 1, error=LOST, body=body)


def apply_file(story: Story, *, prune: bool) -> None:
    body = {"name": "farm", "projects": [], "prune": prune}
    story.call("admin", "apply_config", "POST", "/api/v1/config/apply", 1, error=LOST, body=body)
