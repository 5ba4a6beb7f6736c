"""What keepers do to passwords, for stories that the checker is told."""

from typing import Any

from chaos.checker.kept import KeptLease
from chaos.history import Call
from support.chaos_story import LOST, PASSWORD, Story, lease_answer, user_id

OF_THE_FARM = "abcdefghijk-ABCDEFGH-234"
"""A password as the farm makes them."""


def rotate(story: Story, operation: str = "start_rotation", *, at: float, user: int = 1) -> Call:
    """By the keeper of a chore."""
    lease = story.acquire("keeper-1", user, at=at, purpose="chore", principal="keepers")
    story.release("keeper-1", lease, at=at + 0.5)
    confirms = operation == "confirm_rotation"
    path = f"/api/v1/leases/{lease.id}/users/{user_id(user)}/rotation" + ("/confirm" if confirms else "")
    answer = {"pending_password": OF_THE_FARM}
    if confirms:
        answer = lease_answer(lease)["users"][0] | {"password": OF_THE_FARM}
        story.kept.audited[operation, lease.id] += 1
    return story.call(
        "keeper-1", operation, "POST", path, at + 0.1, principal="keepers", status=200, answer=answer
    )


def inherit(story: Story, *, at: float, password: str = PASSWORD) -> KeptLease:
    """A keeper finds the pending password of an earlier one."""
    lease = story.acquire("keeper-2", 1, at=at, purpose="chore", principal="keepers", password=password)
    story.history.calls[-1].answer["users"][0]["pending_password"] = OF_THE_FARM
    story.release("keeper-2", lease, at=at + 0.5)
    return lease


def lost_write(
    story: Story, operation: str, *, at: float, user: int = 1, lease_id: str = "", body: Any = None
) -> None:
    """A call that may write a password, whose answer is lost."""
    lease = "" if operation == "update_user" else f"/leases/{lease_id or user_id(7)}"
    path = f"/api/v1{lease}/users/{user_id(user)}/x"
    story.call("keeper-1", operation, "POST", path, at, principal="keepers", body=body, error=LOST)
