"""A test that gets a user beside a rotation is found, and a holder that gets another password than the last."""

import json
from typing import Any

import pytest

from chaos.checker import examine
from support.chaos_findings import found, the_one
from support.chaos_passwords import OF_THE_FARM, inherit, lost_write, rotate
from support.chaos_story import LOST, PASSWORD, Story, lease_answer, user_id


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

    @pytest.mark.parametrize(
        ("operation", "body"), [("confirm_rotation", None), ("write_back", {"password": PASSWORD})]
    )
    def test_a_rotation_that_may_have_ended_is_clean(self, operation: str, body: Any) -> None:
        story = Story()
        rotate(story, at=1)
        lost_write(story, operation, at=2, body=body)
        story.acquire("runner-1", 1, at=3)
        assert found(story) == []

    @pytest.mark.parametrize(
        ("operation", "body"),
        [("write_back", {"secrets": {"session": "x"}}), ("update_user", {"labels": {"plan": "paid"}})],
    )
    def test_what_writes_no_password_ends_no_rotation(self, operation: str, body: Any) -> None:
        story = Story()
        rotate(story, at=1)
        lost_write(story, operation, at=2, body=body)
        story.acquire("runner-1", 1, at=3)
        assert "runner-1 got user" in the_one(story, "no pending password for a test")

    @pytest.mark.parametrize("path", ["/api/v1/users/import", "/api/v1/users/import?on_exists=update"])
    def test_an_import_ends_no_rotation(self, path: str) -> None:
        story = Story()
        story.call("person", "import_users", "POST", path, 0.5, error=LOST)
        rotate(story, at=1)
        story.acquire("runner-1", 1, at=3)
        assert "runner-1 got user" in the_one(story, "no pending password for a test")

    def test_a_lost_confirmation_ends_no_rotation_of_a_later_lease(self) -> None:
        story = Story()
        lease = story.acquire("keeper-1", 1, at=1, purpose="chore", principal="keepers")
        story.release("keeper-1", lease, at=2)
        lost_write(story, "confirm_rotation", at=1.5, lease_id=lease.id)
        rotate(story, at=3)
        story.acquire("runner-1", 1, at=5)
        assert "runner-1 got user" in the_one(story, "no pending password for a test")

    def test_a_lost_confirmation_may_come_after_a_rotation_of_its_own_lease(self) -> None:
        story = Story()
        lease = story.acquire("keeper-1", 1, at=1, purpose="chore", principal="keepers")
        lost_write(story, "confirm_rotation", at=1.5, lease_id=lease.id)
        path = f"/api/v1/leases/{lease.id}/users/{user_id(1)}/rotation"
        answer = {"pending_password": OF_THE_FARM}
        story.call(
            "keeper-1", "start_rotation", "POST", path, 2, principal="keepers", status=200, answer=answer
        )
        story.release("keeper-1", lease, at=3)
        story.acquire("runner-1", 1, at=5)
        assert found(story) == []

    def test_a_lost_change_by_a_person_ends_no_rotation_long_after_it(self) -> None:
        story = Story()
        lost_write(story, "update_user", at=1, body={"password": PASSWORD})
        rotate(story, at=100)
        story.acquire("runner-1", 1, at=103)
        assert "runner-1 got user" in the_one(story, "no pending password for a test")

    def test_a_password_that_a_keeper_has_found_pending_is_known_too(self) -> None:
        story = Story()
        inherit(story, at=1)
        story.acquire("runner-1", 1, at=3)
        told = the_one(story, "no pending password for a test")
        assert "keeper-2" in told
        assert "runner-1 got user" in told

    def test_what_was_compared_is_counted(self) -> None:
        story = Story()
        rotate(story, at=1)
        rotate(story, "confirm_rotation", at=2)
        story.acquire("runner-1", 1, 2, at=3, password=OF_THE_FARM)
        lost_write(story, "confirm_rotation", at=4)
        assert examine(*story.finish()).compared["no pending password for a test"] == 1

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
        seen = {"status": 200, "answer": lease_answer(lease)["users"][0]} if answered else {"error": LOST}
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

    def test_a_lost_write_of_a_person_is_not_read_after_a_later_one(self) -> None:
        story = Story()
        lost_write(story, "update_user", at=1, body={"password": f"{PASSWORD}-2"})
        self.write(story, PASSWORD, at=100)
        story.acquire("runner-2", 1, at=103, password=f"{PASSWORD}-2")
        assert "runner-2 got another password" in the_one(story, "the password that was written last")

    def test_a_retry_that_gives_an_old_password_is_found(self) -> None:
        story = Story()
        self.write(story, PASSWORD, at=1)
        lease = story.acquire("runner-2", 1, at=3, key="k")
        story.answer("runner-2", lease, at=4, again=True, password=f"{PASSWORD}-2")
        assert "runner-2 got another password" in the_one(story, "the password that was written last")

    @pytest.mark.parametrize(("created", "violations"), [(1, 1), (0, 0)])
    def test_another_password_than_the_one_of_the_import_is_found(
        self, created: int, violations: int
    ) -> None:
        story = Story()
        story.acquire("runner-2", 1, at=3, password=f"{PASSWORD}-2")
        user = story.history.calls[-1].answer["users"][0]
        line = {
            "login": user["login"],
            "project_id": user["project_id"],
            "env": "stage",
            "password": PASSWORD,
        }
        answer = {"created": created, "updated": 0, "unchanged": 0, "skipped": 1 - created, "errors": []}
        seen = {"status": 200, "answer": answer, "body": json.dumps(line)}
        story.call("admin", "import_users", "POST", "/api/v1/users/import", 1, **seen)
        assert [each.rule for each in found(story)] == ["the password that was written last"] * violations

    def test_of_two_writes_at_once_either_is_the_last(self) -> None:
        story = Story()
        self.write(story, PASSWORD, at=1, took=1)
        self.write(story, f"{PASSWORD}-2", at=1.5, took=1)
        story.acquire("runner-2", 1, at=3)
        assert found(story) == []

    def test_a_lost_confirmation_of_an_inherited_rotation_may_be_there_or_not(self) -> None:
        for password in (PASSWORD, OF_THE_FARM):
            story = Story()
            self.write(story, PASSWORD, at=1)
            lease = inherit(story, at=2)
            lost_write(story, "confirm_rotation", at=2.2, lease_id=lease.id)
            story.acquire("runner-2", 1, at=3, password=password)
            assert found(story) == []

    def test_a_lost_confirmation_of_an_inherited_rotation_writes_nothing_else(self) -> None:
        story = Story()
        self.write(story, f"{PASSWORD}-2", at=1)
        lease = inherit(story, at=2, password=f"{PASSWORD}-2")
        lost_write(story, "confirm_rotation", at=2.2, lease_id=lease.id)
        story.acquire("runner-2", 1, at=3, password=PASSWORD)
        assert "than runner-1 had written" in the_one(story, "the password that was written last")

    @pytest.mark.parametrize(("user", "violations"), [(1, 0), (2, 1)])
    def test_a_lost_confirmation_of_an_unknown_password_leaves_out_its_user(
        self, user: int, violations: int
    ) -> None:
        story = Story()
        self.write(story, f"{PASSWORD}-2", at=1)
        lost_write(story, "confirm_rotation", at=2, user=user)
        story.acquire("runner-2", 1, at=3)
        assert len(found(story)) == violations

    def test_a_write_after_a_lost_confirmation_is_compared_again(self) -> None:
        story = Story()
        lease = story.acquire("keeper-1", 1, at=1, purpose="chore", principal="keepers")
        story.release("keeper-1", lease, at=2)
        lost_write(story, "confirm_rotation", at=1.5, lease_id=lease.id)
        story.release("runner-1", story.acquire("runner-1", 1, at=3), at=3.5)
        self.write(story, f"{PASSWORD}-2", at=5)
        story.acquire("runner-2", 1, at=6)
        assert "than runner-1 had written" in the_one(story, "the password that was written last")

    @pytest.mark.parametrize(("is_answered", "violations"), [(True, 1), (False, 0)])
    def test_an_import_that_may_update_leaves_out_all_users_until_it_is_over(
        self, *, is_answered: bool, violations: int
    ) -> None:
        story = Story()
        answer = {"created": 0, "updated": 1, "unchanged": 0, "skipped": 0, "errors": []}
        seen = {"status": 200, "answer": answer} if is_answered else {"error": LOST}
        path = "/api/v1/users/import?on_exists=update"
        story.call("person", "import_users", "POST", path, 0.5, body="", **seen)
        self.write(story, f"{PASSWORD}-2", at=1)
        story.acquire("runner-2", 1, at=3)
        assert len(found(story)) == violations

    def test_a_rotation_writes_too(self) -> None:
        story = Story()
        self.write(story, PASSWORD, at=1)
        rotate(story, at=2)
        rotate(story, "confirm_rotation", at=3)
        story.acquire("runner-2", 1, at=5)
        assert "than keeper-1 had written" in the_one(story, "the password that was written last")
