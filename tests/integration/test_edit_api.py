"""Changes and deletions over HTTP."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest

from support.http import LEASE, assert_problem, create_project, create_user


class TestProjects:
    async def test_a_patch_merges(self, api: httpx.AsyncClient) -> None:
        project_id = await create_project(api)
        before = (await api.get(f"/projects/{project_id}")).json()
        answer = await api.patch(f"/projects/{project_id}", json={"name": "store", "cooldown": 7})
        assert answer.status_code == 200
        assert answer.json() == {**before, "name": "store", "cooldown": 7}
        assert (await api.patch(f"/projects/{project_id}", json={})).json() == answer.json()

    async def test_what_cannot_be_is_refused(self, api: httpx.AsyncClient) -> None:
        project_id = await create_project(api)
        await create_project(api, name="bank")
        path = f"/projects/{project_id}"
        assert_problem(await api.patch(path, json={"name": "bank"}), 409, "project-exists")
        assert_problem(await api.patch(f"/projects/{uuid4()}", json={}), 404, "no-such-project")
        for bad in ({"name": None}, {"max_ttl": 0}, {"id": str(uuid4())}, {"cooldown": -1}):
            assert_problem(await api.patch(path, json=bad), 422, "invalid-request")

    async def test_a_partial_scope_learns_no_name_of_another_project(self, api: httpx.AsyncClient) -> None:
        project_id = await create_project(api)
        await create_project(api, name="secret")
        token = {"name": "admin", "role": "admin", "projects": ["shop"], "envs": ["*"]}
        made = (await api.post("/tokens", json=token)).json()["token"]
        headers = {"Authorization": f"Bearer {made}"}
        for name in ("secret", "of-nobody"):
            answer = await api.patch(f"/projects/{project_id}", json={"name": name}, headers=headers)
            assert_problem(answer, 403, "forbidden")
        answer = await api.patch(f"/projects/{project_id}", json={"cooldown": 5}, headers=headers)
        assert answer.status_code == 200

    async def test_a_project_with_users_is_in_use(self, api: httpx.AsyncClient) -> None:
        project_id = await create_project(api)
        user = await create_user(api, project_id)
        assert_problem(await api.delete(f"/projects/{project_id}"), 409, "project-in-use")
        await api.delete(f"/users/{user['id']}")
        deleted = await api.delete(f"/projects/{project_id}")
        assert (deleted.status_code, deleted.content) == (204, b"")
        assert_problem(await api.delete(f"/projects/{project_id}"), 404, "no-such-project")

    async def test_a_shorter_policy_caps_the_next_renewal(self, api: httpx.AsyncClient) -> None:
        project_id = await create_project(api)
        await create_user(api, project_id)
        lease = (await api.post("/leases", json=LEASE)).json()
        await api.patch(f"/projects/{project_id}", json={"max_ttl": 60})
        renewed = (await api.post(f"/leases/{lease['id']}/renew", json={"ttl_seconds": 9_000})).json()
        assert renewed["ttl_seconds"] == 60
        assert renewed["expires_at"] == lease["expires_at"]


class TestUsers:
    async def test_a_patch_merges_and_keeps_the_password_unless_it_is_given(
        self, api: httpx.AsyncClient
    ) -> None:
        project_id = await create_project(api)
        user = await create_user(api, project_id, labels={"language": "de", "plan": "free"})
        path = f"/users/{user['id']}"
        changes = {"login": "new@shop.test", "labels": {"plan": None, "tier": "1"}, "password": "changed"}
        answer = await api.patch(path, json=changes)
        assert answer.status_code == 200, answer.text
        labels = {"language": "de", "tier": "1"}
        assert answer.json() == {**user, "login": "new@shop.test", "labels": labels}
        assert "changed" not in answer.text
        assert (await api.patch(path, json={"env": "prod"})).json()["env"] == "prod"
        lease = (await api.post(f"{path}/acquire_lock")).json()
        assert lease["users"][0]["password"] == "changed"

    async def test_labels_stay_within_their_limit(self, api: httpx.AsyncClient) -> None:
        user = await create_user(api, await create_project(api), labels={f"a{n}": "" for n in range(40)})
        more = {"labels": {f"b{n}": "" for n in range(40)}}
        problem = assert_problem(await api.patch(f"/users/{user['id']}", json=more), 422, "invalid-request")
        assert problem["errors"][0]["field"] == "labels"

    async def test_quarantine_and_back(self, api: httpx.AsyncClient) -> None:
        user = await create_user(api, await create_project(api))
        path = f"/users/{user['id']}"
        quarantined = (await api.post(f"{path}/quarantine", json={"reason": "captcha"})).json()
        assert (quarantined["state"], quarantined["status_reason"]) == ("quarantined", "captcha")
        since = quarantined["status_since"]
        assert since
        again = (await api.post(f"{path}/quarantine", json={"reason": "2FA"})).json()
        assert (again["status_since"], again["status_reason"]) == (since, "2FA")
        assert_problem(await api.post(f"{path}/acquire_lock"), 409, "user-quarantined")
        assert_problem(await api.post("/leases", json=LEASE), 409, "pool-exhausted")
        back = (await api.post(f"{path}/restore")).json()
        assert (back["state"], back["status_reason"], back["status_since"]) == ("free", None, None)
        assert_problem(await api.post(f"{path}/quarantine", json={}), 422, "invalid-request")
        assert_problem(await api.patch(path, json={"status": "active"}), 422, "invalid-request")

    async def test_a_leased_user_stays_where_it_is(self, api: httpx.AsyncClient) -> None:
        project_id, other = await create_project(api), await create_project(api, name="bank")
        user = await create_user(api, project_id)
        path = f"/users/{user['id']}"
        lease = (await api.post(f"{path}/acquire_lock")).json()
        for move in ({"env": "prod"}, {"domain": "canary"}, {"project_id": other}):
            problem = assert_problem(await api.patch(path, json=move), 409, "user-busy")
            assert problem["expires_in"] > 0
        assert_problem(await api.delete(path), 409, "user-busy")
        assert (await api.patch(path, json={"env": user["env"], "labels": {"a": "b"}})).status_code == 200
        await api.post(f"/leases/{lease['id']}/release")
        assert (await api.patch(path, json={"project_id": other})).json()["project_id"] == other
        assert (await api.delete(path)).status_code == 204
        assert_problem(await api.get(path), 404, "no-such-user")
        assert (await api.get(f"/leases/{lease['id']}")).json()["users"] == []

    async def test_what_cannot_be_is_refused(self, api: httpx.AsyncClient) -> None:
        project_id = await create_project(api)
        first, second = await create_user(api, project_id), await create_user(api, project_id)
        path = f"/users/{first['id']}"
        taken = {"login": second["login"].upper()}
        assert_problem(await api.patch(path, json=taken), 409, "user-exists")
        assert_problem(await api.patch(path, json={"project_id": str(uuid4())}), 404, "no-such-project")
        assert_problem(await api.patch(f"/users/{uuid4()}", json={}), 404, "no-such-user")
        assert_problem(await api.delete(f"/users/{uuid4()}"), 404, "no-such-user")
        bad: list[dict[str, Any]] = [
            {"login": None},
            {"password": ""},
            {"env": "x"},
            {"locktime": None},
            {"labels": 1},
        ]
        for body in bad:
            assert_problem(await api.patch(path, json=body), 422, "invalid-request")

    async def test_a_user_shows_its_last_lease(self, api: httpx.AsyncClient) -> None:
        user = await create_user(api, await create_project(api))
        path = f"/users/{user['id']}"
        assert (await api.get(path)).json()["last_lease"] is None
        lease = (await api.post(f"{path}/acquire_lock", json={"owner": "job 7", "metadata": {"n": 1}})).json()
        assert (await api.get(path)).json()["last_lease"]["ended_at"] is None
        await api.post(f"/leases/{lease['id']}/release", json={"outcome": "dirty"})
        last = (await api.get(path)).json()["last_lease"]
        assert (last["id"], last["owner"], last["metadata"]) == (lease["id"], "job 7", {"n": 1})
        assert (last["ended_by"], last["outcome"]) == ("released", "dirty")

    @pytest.mark.parametrize("deed", ["delete", "move"])
    async def test_an_acquire_and_a_removal_of_the_user_serialise(
        self, api: httpx.AsyncClient, deed: str
    ) -> None:
        project_id = await create_project(api)
        for _ in range(10):
            user = await create_user(api, project_id, domain="canary")
            path = f"/users/{user['id']}"
            taken_away = api.delete(path) if deed == "delete" else api.patch(path, json={"env": "prod"})
            acquired, changed = await asyncio.gather(api.post(f"{path}/acquire_lock"), taken_away)
            if deed == "delete":
                assert (acquired.status_code, changed.status_code) in {(200, 409), (404, 204), (409, 204)}
            elif changed.status_code == 409:
                assert acquired.json()["env"] == "stage"
            else:
                assert acquired.status_code == 200
