"""A password that is seen where it does not belong is found, in whatever it was written."""

from dataclasses import replace
from pathlib import Path

from chaos.checker import check
from support.chaos_findings import found, the_one
from support.chaos_passwords import OF_THE_FARM, inherit, rotate
from support.chaos_story import PASSWORD, Story, lease_answer


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

    def test_a_password_that_the_farm_made_is_known_from_the_next_keeper_too(self) -> None:
        story = Story()
        inherit(story, at=1)
        page = {"status": 200, "content_type": "text/html", "answer": f"<td>pw={OF_THE_FARM}</td>"}
        story.call("person", "page", "GET", "/ui/users", 3, **page)
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
