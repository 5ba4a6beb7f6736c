"""A password that is seen where it does not belong is found, in whatever it was written."""

from dataclasses import replace
from pathlib import Path

import pytest

from chaos.checker import check
from chaos.checker.violations import Violation
from chaos.history import CANARY, Call
from support.chaos_story import PASSWORD, Story, lease_answer, user_id

OF_THE_FARM = "abcdefghijk-ABCDEFGH-234"


def found(story: Story) -> list[Violation]:
    return check(*story.finish())


def the_one(story: Story, rule: str) -> str:
    (violation,) = found(story)
    assert violation.rule == rule, violation
    assert CANARY not in str(violation)
    assert OF_THE_FARM not in str(violation)
    return str(violation)


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


class TestPasswords:
    def test_answers_for_the_holder_are_clean(self) -> None:
        story = Story()
        lease = story.acquire("runner-1", 1, at=1)
        story.renew("runner-1", lease, at=2)
        path = f"/api/v1/leases/{lease.id}"
        story.call("runner-1", "get_lease", "GET", path, 3, status=200, answer=lease_answer(lease))
        assert found(story) == []

    def test_a_password_for_another_principal_is_found(self) -> None:
        story = Story()
        lease = story.acquire("runner-1", 1, at=1)
        path = f"/api/v1/leases/{lease.id}"
        answer = lease_answer(lease)
        story.call("spy-1", "get_lease", "GET", path, 3, principal="spies", status=200, answer=answer)
        assert "spy-1 got a password from get_lease" in the_one(story, "passwords for the holder only")

    def test_a_password_of_a_lease_that_ended_is_found(self) -> None:
        story = Story()
        lease = story.acquire("runner-1", 1, at=1)
        release = story.release("runner-1", lease, at=2)
        story.history.calls[-1] = replace(release, answer=lease_answer(story.kept.leases[lease.id]))
        assert "runner-1 got a password from release_lease" in the_one(story, "passwords for the holder only")

    def test_a_password_in_an_error_is_found(self) -> None:
        story = Story()
        path = "/api/v1/users"
        story.problem("person", "create_user", path, 409, "user-exists", at=1, details={"detail": PASSWORD})
        assert "person got a password from create_user" in the_one(story, "passwords for the holder only")

    def test_a_password_that_the_farm_made_is_found_on_a_page(self) -> None:
        story = Story()
        rotate(story, at=1)
        rotate(story, "confirm_rotation", at=2)
        page = {"status": 200, "content_type": "text/html", "answer": f"<td>pw={OF_THE_FARM}</td>"}
        story.call("person", "page", "GET", "/ui/users", 3, took=0.01, **page)
        assert "person got a password from page" in the_one(story, "passwords for the holder only")

    def test_a_password_in_a_log_is_found(self, tmp_path: Path) -> None:
        log = tmp_path / "api.log"
        log.write_text(f"started\n{{'event': 'x', 'body': '{PASSWORD}'}}\n")
        (violation,) = check(*Story().finish(), logs=[log])
        assert f"{log}, line 2" in str(violation)

    def test_a_password_in_a_table_is_found(self) -> None:
        story = Story()
        story.kept.passwords_in = ["audit: (1,2026-01-05..."]
        assert "in the table audit" in the_one(story, "passwords for the holder only")


class TestPending:
    def test_a_test_that_gets_the_user_of_a_rotation_is_found(self) -> None:
        story = Story()
        rotate(story, at=1)
        lease = story.acquire("runner-1", 1, at=3)
        told = the_one(story, "no pending password for a test")
        assert f"runner-1 got user {user_id(1)} for a test, by lease {lease.id}" in told
        assert "keeper-1" in told

    def test_a_pending_password_in_the_answer_of_a_test_is_found(self) -> None:
        story = Story()
        story.acquire("runner-1", 1, at=3)
        call = story.history.calls[-1]
        call.answer["users"][0]["pending_password"] = "new"
        assert "got the pending password of user" in the_one(story, "no pending password for a test")

    def test_a_rotation_that_was_confirmed_is_clean(self) -> None:
        story = Story()
        rotate(story, at=1)
        rotate(story, "confirm_rotation", at=2)
        story.acquire("runner-1", 1, at=3, password=OF_THE_FARM)
        assert found(story) == []

    @pytest.mark.parametrize("operation", ["confirm_rotation", "write_back"])
    def test_a_rotation_that_may_have_ended_is_clean(self, operation: str) -> None:
        story = Story()
        rotate(story, at=1)
        path = f"/api/v1/leases/{user_id(7)}/users/{user_id(1)}/x"
        story.call("keeper-1", operation, "POST", path, 2, principal="keepers", error="connection lost")
        story.acquire("runner-1", 1, at=3)
        assert found(story) == []

    def test_other_users_and_keepers_may_come_meanwhile(self) -> None:
        story = Story()
        rotate(story, at=1)
        story.acquire("runner-1", 2, at=3)
        story.acquire("keeper-2", 1, at=3, purpose="chore", principal="keepers")
        assert found(story) == []


class TestLastPassword:
    def write(
        self, story: Story, password: str, *, at: float, answered: bool = True, took: float = 0.01
    ) -> None:
        lease = story.acquire("runner-1", 1, at=at - 0.05)
        story.history.calls.pop()
        path = f"/api/v1/leases/{lease.id}/users/{user_id(1)}"
        seen = {"status": 200, "answer": lease_answer(lease)["users"][0]} if answered else {"error": "cut"}
        story.call(
            "runner-1", "write_back", "PATCH", path, at, took=took, body={"password": password}, **seen
        )
        story.kept.audited["write_back", lease.id] += 1
        story.end(lease, at=at, by="released")

    def test_an_old_password_is_found(self) -> None:
        story = Story()
        self.write(story, PASSWORD, at=1)
        self.write(story, f"{PASSWORD}-2", at=2)
        story.acquire("runner-2", 1, at=3)
        told = the_one(story, "the password that was written last")
        assert f"runner-2 got another password of user {user_id(1)} than runner-1 had written" in told

    @pytest.mark.parametrize("lost", [f"{PASSWORD}-2", PASSWORD])
    def test_a_write_whose_answer_is_lost_may_be_there_or_not(self, lost: str) -> None:
        story = Story()
        self.write(story, f"{PASSWORD}-2" if lost == PASSWORD else PASSWORD, at=1)
        self.write(story, lost, at=2, answered=False)
        story.acquire("runner-2", 1, at=3)
        assert found(story) == []

    def test_of_two_writes_at_once_either_is_the_last(self) -> None:
        story = Story()
        self.write(story, PASSWORD, at=1, took=1)
        self.write(story, f"{PASSWORD}-2", at=1.5, took=1)
        story.acquire("runner-2", 1, at=3)
        assert found(story) == []

    def test_a_rotation_writes_too(self) -> None:
        story = Story()
        self.write(story, PASSWORD, at=1)
        rotate(story, at=2)
        rotate(story, "confirm_rotation", at=3)
        story.acquire("runner-2", 1, at=5)
        assert "than keeper-1 had written" in the_one(story, "the password that was written last")
