"""Users, quarantines and other changes that were acknowledged and are gone are found and named."""

import json
from typing import Any

import pytest

from chaos.checker.acknowledged import nothing_lost
from chaos.checker.seen import Seen
from chaos.checker.violations import Violation
from chaos.history import Call
from support.chaos_story import LOST, PROJECT, Story, lease_answer, user_id


def found(story: Story) -> list[Violation]:
    """By this rule alone, so that answers need no more than it reads."""
    history, kept = story.finish()
    return list(nothing_lost(Seen(history), kept))


def the_one(story: Story) -> str:
    (violation,) = found(story)
    return str(violation)


class TestQuarantines:
    """Of one user, who is free at the end because somebody has restored all users."""

    def story(self, *, restored_at: float = 10) -> Story:
        story = Story()
        story.user(user_id(1))
        quarantine(story, at=1)
        restore_all(story, at=restored_at)
        return story

    def test_one_that_is_gone_at_the_end_is_found(self) -> None:
        story = Story()
        story.user(user_id(1))
        quarantine(story, at=1)
        assert "was quarantined by person, and is active in the database" in the_one(story)

    def test_one_that_lasts_is_clean(self) -> None:
        story = self.story()
        look(story, "quarantined", at=2)
        look(story, "active", at=11)
        assert found(story) == []

    def test_one_that_a_list_no_longer_shows_is_found(self) -> None:
        story = self.story()
        look(story, "active", at=2)
        told = the_one(story)
        assert "is active after that" in told
        assert "GET /api/v1/users?limit=20" in told

    def test_one_that_the_user_itself_no_longer_shows_is_found(self) -> None:
        story = self.story()
        path = f"/api/v1/users/{user_id(1)}"
        story.call(
            "person", "get_user", "GET", path, 2, status=200, answer={"id": user_id(1), "status": "dirty"}
        )
        assert "is dirty after that" in the_one(story)

    def test_a_user_that_is_given_to_a_test_meanwhile_is_found(self) -> None:
        story = self.story()
        story.acquire("runner-1", 1, at=2)
        assert "is leased after that" in the_one(story)

    def test_a_hold_and_what_was_under_way_are_clean(self) -> None:
        story = self.story()
        story.acquire("runner-1", 1, at=0.5, took=1)
        look(story, "active", at=0.9)
        story.end(story.acquire("person", 1, at=70, purpose="hold"), at=71)
        assert found(story) == []

    @pytest.mark.parametrize("action", ["label", "retire", "delete"])
    def test_other_changes_of_many_excuse_nothing(self, action: str) -> None:
        story = self.story()
        restore_all(story, at=1.5, action=action)
        restore_all(story, at=1.5, dry_run=True)
        look(story, "active", at=2)
        assert "is active after that" in the_one(story)

    def test_one_that_may_have_been_lifted_is_clean(self) -> None:
        story = self.story()
        path = f"/api/v1/users/{user_id(1)}/restore"
        story.call("person", "restore_user", "POST", path, 1.5, error=LOST)
        look(story, "active", at=2)
        assert found(story) == []

    def test_a_restore_without_an_answer_may_come_late_but_not_for_ever(self) -> None:
        early, long_ago = (Story(), Story())
        for story, sent_at in ((early, 20), (long_ago, 5)):
            story.user(user_id(1))
            restore_all(story, at=sent_at, answered=False)
            quarantine(story, at=21)
            restore_all(story, at=30)
            look(story, "active", at=22)
        assert found(early) == []
        assert "is active after that" in the_one(long_ago)

    def test_one_that_has_an_end_is_clean(self) -> None:
        story = Story()
        story.user(user_id(1))
        quarantine(story, at=1, until="2026-01-05T08:00:02Z")
        look(story, "active", at=3)
        assert found(story) == []


class TestUsers:
    def story(self) -> Story:
        """An import of three, of which one is refused and one is gone."""
        story = Story()
        lines = [
            {"login": f"{name}@shop.test", "labels": {"imported": "yes"}} for name in ("ann", "bob", "eve")
        ]
        answer = {"errors": [{"line": 2, "field": "login", "code": "exists"}]}
        path = "/api/v1/users/import?on_error=skip"
        body = "\n".join(map(json.dumps, lines))
        story.call("person", "import_users", "POST", path, 1, status=200, body=body, answer=answer)
        story.user(user_id(1), login="Ann@shop.test")
        return story

    def test_an_imported_user_that_is_gone_is_found(self) -> None:
        assert "1 users of person are not in the database, eve@shop.test" in the_one(self.story())

    def test_a_user_of_an_applied_file_that_is_gone_is_found(self) -> None:
        story = Story()
        file = {"name": "farm", "projects": [{"name": "shop", "users": [{"login": "ann@shop.test"}]}]}
        story.call("admin", "apply_config", "POST", "/api/v1/config/apply", 1, status=200, body=file)
        assert "1 users of admin are not in the database, ann@shop.test" in the_one(story)

    def test_users_that_may_have_been_deleted_are_clean(self) -> None:
        story = self.story()
        restore_all(story, at=2, action="delete", filter={"labels": {"imported": "yes"}}, answered=False)
        assert found(story) == []

    @pytest.mark.parametrize(
        ("at", "change"),
        [
            (2, {"filter": {"labels": {"imported": "no"}}}),
            (2, {"filter": {"labels": {"imported": "yes"}}, "dry_run": True}),
            (0.5, {"filter": {"labels": {"imported": "yes"}}}),
        ],
    )
    def test_deletions_of_others_and_before_excuse_nothing(self, at: float, change: dict[str, Any]) -> None:
        story = self.story()
        restore_all(story, at=at, action="delete", **change)
        assert "eve@shop.test" in the_one(story)


class TestChanges:
    def test_a_change_without_an_audit_entry_is_found(self) -> None:
        story = Story()
        story.user(user_id(1))
        quarantine(story, at=1)
        restore_all(story, at=2)
        story.kept.audited.clear()
        assert f"quarantine_user of {user_id(1)} is in the audit 0 times" in the_one(story)

    def test_the_second_of_two_changes_that_the_audit_lacks_is_found(self) -> None:
        story = Story()
        story.user(user_id(1))
        quarantine(story, at=1)
        restore_all(story, at=2)
        quarantine(story, at=3)
        restore_all(story, at=4)
        assert found(story) == []
        story.kept.audited["quarantine_user", user_id(1)] -= 1
        assert "is in the audit 1 times, and was answered 2 times" in the_one(story)

    def test_a_forced_release_that_the_audit_lacks_is_found(self) -> None:
        story = Story()
        lease = story.acquire("runner-1", 1, at=1)
        for at in (2, 3):  # the second one changes nothing
            force(story, lease.id, at=at)
        assert "is in the audit 0 times, and was answered 1 times" in the_one(story)
        story.kept.audited["force_release_lease", lease.id] = 1
        assert found(story) == []

    def test_a_token_that_is_in_force_again_is_found(self) -> None:
        story = Story()
        story.call("admin", "delete_token", "DELETE", "/api/v1/tokens/t1", 1, status=204, content_type="")
        story.kept.audited["delete_token", "t1"] = 1
        assert found(story) == []
        story.kept.tokens = {"t1"}
        assert "token t1 was revoked, and is in force" in the_one(story)

    def test_a_policy_that_is_not_as_it_was_changed_last_is_found(self) -> None:
        story = Story()
        change_policy(story, {"cooldown": 1}, at=1)
        change_policy(story, {"cooldown": 0, "lock_delay": 2}, at=2)
        story.kept.projects = {PROJECT: {"name": "shop", "cooldown": 0, "lock_delay": 2}}
        assert found(story) == []
        story.kept.projects = {PROJECT: {"name": "shop", "cooldown": 1, "lock_delay": 2}}
        assert "project shop has cooldown 1, and was changed last to [0]" in the_one(story)

    def test_a_change_of_a_policy_whose_answer_was_lost_may_be_there_or_not(self) -> None:
        story = Story()
        change_policy(story, {"cooldown": 1}, at=1)
        change_policy(story, {"cooldown": 2}, at=2, answered=False)
        for cooldown in (1, 2):
            story.kept.projects = {PROJECT: {"name": "shop", "cooldown": cooldown}}
            assert found(story) == []

    def test_a_change_of_a_policy_whose_answer_was_lost_long_before_the_last_one_is_over(self) -> None:
        story = Story()
        change_policy(story, {"cooldown": 2}, at=1, answered=False)
        change_policy(story, {"cooldown": 1}, at=20)
        story.kept.projects = {PROJECT: {"name": "shop", "cooldown": 2}}
        assert "was changed last to [1]" in the_one(story)


def quarantine(story: Story, *, at: float, **more: str) -> None:
    """Answered, and in the audit."""
    path = f"/api/v1/users/{user_id(1)}/quarantine"
    body = {"reason": "a captcha", **more}
    story.call("person", "quarantine_user", "POST", path, at, status=200, body=body)
    story.kept.audited["quarantine_user", user_id(1)] += 1


def restore_all(
    story: Story, *, at: float, action: str = "restore", answered: bool = True, **more: Any
) -> None:
    """Or another change of many users."""
    body = {"action": action, "filter": {"state": "quarantined"}, **more}
    seen: dict[str, Any] = {"status": 200} if answered else {"error": LOST}
    story.call("person", "change_users", "POST", "/api/v1/users/bulk", at, body=body, **seen)


def look(story: Story, status: str, *, at: float) -> None:
    answer = {"items": [{"id": user_id(1), "status": status}]}
    story.call("person", "get_users", "GET", "/api/v1/users?limit=20", at, status=200, answer=answer)


def force(story: Story, lease_id: str, *, at: float) -> Call:
    lease = story.kept.leases[lease_id]
    ended = lease if lease.ended_at else story.end(lease, at=at, by="forced", reason="it hangs")
    path = f"/api/v1/leases/{lease_id}/force_release"
    answer = lease_answer(ended, password=None)
    return story.call(
        "lead",
        "force_release_lease",
        "POST",
        path,
        at,
        status=200,
        body={"reason": "it hangs"},
        answer=answer,
    )


def change_policy(story: Story, changes: dict[str, int], *, at: float, answered: bool = True) -> None:
    seen: dict[str, Any] = {"status": 200} if answered else {"error": LOST}
    path = f"/api/v1/projects/{PROJECT}"
    story.call("admin", "update_project", "PATCH", path, at, body=changes, **seen)
    story.kept.audited["update_project", PROJECT] += answered
