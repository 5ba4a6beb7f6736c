"""The contract over HTTP: operations, fields, status numbers, problems."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest

from support.farm import PASSWORD
from support.http import LEASE, assert_problem, create_project, create_user


class TestProjects:
    async def test_the_policy_has_the_documented_defaults(self, api: httpx.AsyncClient) -> None:
        project_id = await create_project(api)
        project = (await api.get(f"/projects/{project_id}")).json()
        assert project.pop("created_at")
        assert project == {
            "id": project_id,
            "name": "shop",
            "envs": ["prod", "preprod", "stage"],
            "domains": ["regular", "canary"],
            "default_ttl": 900,
            "max_ttl": 14_400,
            "max_hold": 43_200,
            "lock_delay": 15,
            "cooldown": 0,
            "login_gap": 0,
            "quarantine_after": 3,
            "quarantine_share": 0.3,
            "count_expired": False,
            "cleaning": "off",
            "clean_attempts": 3,
            "check_every": 0,
            "rotate_every": 0,
            "rotate_on_release": False,
            "session_refresh": 0,
            "logins": "email",
            "managed_by": None,
        }
        assert [each["id"] for each in (await api.get("/projects")).json()["items"]] == [project_id]

    async def test_ids_and_names_are_taken_once(self, api: httpx.AsyncClient) -> None:
        chosen = str(uuid4())
        assert await create_project(api, id=chosen) == chosen
        assert_problem(await api.post("/projects", json={"name": "shop"}), 409, "project-exists")
        assert_problem(
            await api.post("/projects", json={"name": "bank", "id": chosen}), 409, "project-exists"
        )
        assert_problem(await api.get(f"/projects/{uuid4()}"), 404, "no-such-project")

    @pytest.mark.parametrize(
        "name", ["", "a b", "x" * 65, "shop/stage", "6ceeab8a-c751-4269-81b1-df948d89b699"]
    )
    async def test_a_name_is_plain_and_no_uuid(self, api: httpx.AsyncClient, name: str) -> None:
        problem = assert_problem(await api.post("/projects", json={"name": name}), 422, "invalid-request")
        assert [error["field"] for error in problem["errors"]] == ["name"]


class TestUsers:
    async def test_a_user_is_shown_without_its_password(self, api: httpx.AsyncClient) -> None:
        project_id = await create_project(api)
        user = await create_user(api, project_id, login="a@shop.local", labels={"language": "de"})
        assert user == (await api.get(f"/users/{user['id']}")).json()
        assert user["login"] == "a@shop.local"
        assert (user["state"], user["status"], user["locktime"]) == ("free", "active", None)
        assert PASSWORD not in str(user)
        assert "password" not in user

    async def test_a_login_is_unique_in_its_project_and_env_whatever_its_case(
        self, api: httpx.AsyncClient
    ) -> None:
        project_id = await create_project(api)
        await create_user(api, project_id, login="a@shop.test")
        body = {
            "login": "A@shop.test",
            "password": "x",
            "project_id": project_id,
            "env": "stage",
            "domain": "canary",
        }
        assert_problem(await api.post("/users", json=body), 409, "user-exists")
        assert (await api.post("/users", json={**body, "env": "prod"})).status_code == 201
        assert_problem(
            await api.post("/users", json={**body, "project_id": str(uuid4())}), 404, "no-such-project"
        )
        assert_problem(await api.get(f"/users/{uuid4()}"), 404, "no-such-user")

    async def test_the_list_is_filtered_and_paged(self, api: httpx.AsyncClient) -> None:
        project_id = await create_project(api)
        french = await create_user(api, project_id, labels={"language": "fr", "plan": "a:b"})
        others = [await create_user(api, project_id, env="prod") for _ in range(4)]
        await api.post(f"/users/{others[0]['id']}/acquire_lock")

        async def ids(**query: Any) -> list[str]:
            return [user["id"] for user in (await api.get("/users", params=query)).json()["items"]]

        assert await ids(label=["language:fr", "plan:a:b"]) == [french["id"]]
        assert await ids(label="language:de") == []
        assert await ids(login=french["login"].upper()) == [french["id"]]
        assert await ids(env="stage", project_id=project_id, domain="regular") == [french["id"]]
        assert await ids(state="leased") == [others[0]["id"]]
        seen, cursor, pages = [], None, 0
        while pages == 0 or cursor:
            page = (
                await api.get("/users", params={"limit": 2, **({"cursor": cursor} if cursor else {})})
            ).json()
            seen += [user["id"] for user in page["items"]]
            cursor, pages = page["next_cursor"], pages + 1
        assert (len(seen), pages) == (5, 3)
        assert set(seen) == {french["id"], *(user["id"] for user in others)}
        assert len((await api.get("/users", params={"limit": 100_000})).json()["items"]) == 5

    async def test_a_list_of_one_project_shows_it_whole_and_nothing_else(
        self, api: httpx.AsyncClient
    ) -> None:
        projects = [await create_project(api, name=name) for name in ("shop", "till", "depot")]
        users = {
            project_id: {(await create_user(api, project_id))["id"] for _ in range(3)}
            for project_id in projects
        }
        cursors: list[str | None] = [None]
        while cursors[-1] or len(cursors) == 1:  # also pages that begin in another project
            query = {"limit": 1, **({"cursor": cursors[-1]} if cursors[-1] else {})}
            cursors.append((await api.get("/users", params=query)).json()["next_cursor"])
        for project_id in projects:
            pages = [
                (await api.get("/users", params={"project_id": project_id, "cursor": cursor})).json()
                for cursor in cursors[1:-1]
            ]
            assert {user["id"] for page in pages for user in page["items"]} <= users[project_id]
            first = (await api.get("/users", params={"project_id": project_id, "limit": 2})).json()
            rest = {"project_id": project_id, "limit": 2, "cursor": first["next_cursor"]}
            second = (await api.get("/users", params=rest)).json()
            shown = [user["id"] for page in (first, second) for user in page["items"]]
            assert (set(shown), len(shown), second["next_cursor"]) == (users[project_id], 3, None)

    async def test_a_cursor_that_is_none_is_refused(self, api: httpx.AsyncClient) -> None:
        for cursor in ("x", "WyIyIl0", "!!", "W10"):
            problem = assert_problem(
                await api.get("/users", params={"cursor": cursor}), 422, "invalid-request"
            )
            assert problem["errors"][0]["field"] == "cursor"


class TestLeases:
    async def test_the_life_of_a_lease(self, api: httpx.AsyncClient) -> None:
        project_id = await create_project(api)
        user = await create_user(api, project_id)
        wanted = {"project": "shop", "env": "stage", "owner": "ci", "metadata": {"url": "https://ci.test/7"}}
        answer = await api.post("/leases", json=wanted)
        assert answer.status_code == 201
        assert answer.headers["cache-control"] == "no-store"
        lease = answer.json()
        assert set(lease) == {
            "id", "fence", "project_id", "env", "domain", "owner", "metadata", "acquired_at", "expires_at",
            "expires_in", "ttl_seconds", "hold_until", "ended_at", "ended_by", "outcome", "users",
            "purpose", "reason", "note", "requested_at", "waited", "labels",
        }  # fmt: skip
        assert (lease["owner"], lease["metadata"], lease["ttl_seconds"]) == (
            "ci",
            {"url": "https://ci.test/7"},
            900,
        )
        assert 899 < lease["expires_in"] <= 900
        assert lease["users"] == [
            {
                "id": user["id"],
                "login": user["login"],
                "password": PASSWORD,
                "project_id": project_id,
                "env": "stage",
                "domain": "regular",
                "locktime": lease["acquired_at"],
                "labels": {},
            }
        ]
        again = (await api.get(f"/leases/{lease['id']}")).json()
        assert again["users"][0]["password"] == PASSWORD
        renewed = await api.post(f"/leases/{lease['id']}/renew", json={"ttl_seconds": 1_000})
        assert (renewed.status_code, renewed.json()["ttl_seconds"]) == (200, 1_000)
        assert (await api.post(f"/leases/{lease['id']}/renew")).status_code == 200
        for _ in range(2):
            released = await api.post(
                f"/leases/{lease['id']}/release", json={"outcome": "ok", "note": "done"}
            )
            assert released.status_code == 200
            assert released.json()["ended_by"] == "released"
            assert "password" not in released.json()["users"][0]
        assert_problem(await api.post(f"/leases/{lease['id']}/renew"), 410, "lease-lapsed")
        listed = (await api.get("/leases", params={"state": "ended", "owner": "ci"})).json()
        assert [each["id"] for each in listed["items"]] == [lease["id"]]
        assert PASSWORD not in str(listed)

    async def test_an_exhausted_pool_says_how_it_stands_and_when_to_come_back(
        self, api: httpx.AsyncClient
    ) -> None:
        project_id = await create_project(api)
        await create_user(api, project_id)
        wanted = {"project_id": project_id, "env": "stage", "ttl_seconds": 10}
        assert (await api.post("/leases", json=wanted)).status_code == 201
        answer = await api.post("/leases", json=wanted)
        problem = assert_problem(answer, 409, "pool-exhausted")
        assert {name: problem[name] for name in ("total", "leased", "resting", "quarantined", "waiting")} == {
            "total": 1, "leased": 1, "resting": 0, "quarantined": 0, "waiting": 0,
        }  # fmt: skip
        assert 20 < problem["next_free_in"] <= 25
        assert 21 <= int(answer.headers["retry-after"]) <= 25
        assert_problem(await api.post("/leases", json={**wanted, "count": 2}), 409, "pool-too-small")
        assert_problem(await api.post("/leases", json={**wanted, "env": "prod"}), 404, "no-such-pool")
        assert_problem(
            await api.post("/leases", json={"project": "no-such", "env": "prod"}), 404, "no-such-project"
        )

    async def test_a_waiting_request_gets_the_user_that_is_released(self, api: httpx.AsyncClient) -> None:
        project_id = await create_project(api)
        await create_user(api, project_id)
        wanted = {"project_id": project_id, "env": "stage"}
        lease = (await api.post("/leases", json=wanted)).json()
        waiting = asyncio.create_task(api.post("/leases", json={**wanted, "wait_seconds": 20}))
        async with asyncio.timeout(60):
            while (await api.get("/pools")).json()["items"][0]["waiting"] == 0:
                await asyncio.sleep(0.01)
        await api.post(f"/leases/{lease['id']}/release")
        assert (await waiting).status_code == 201

    async def test_a_renamed_or_deleted_project_is_not_found_by_its_old_name(
        self, api: httpx.AsyncClient
    ) -> None:
        project_id = await create_project(api)
        user = await create_user(api, project_id)
        lease = (await api.post("/leases", json=LEASE)).json()
        await api.post(f"/leases/{lease['id']}/release")
        await api.patch(f"/projects/{project_id}", json={"name": "store"})
        assert_problem(await api.post("/leases", json=LEASE), 404, "no-such-project")
        by_id = {"project_id": project_id, "env": "stage"}
        lease = (await api.post("/leases", json=by_id)).json()
        await api.post(f"/leases/{lease['id']}/release")
        await api.delete(f"/users/{user['id']}")
        assert (await api.delete(f"/projects/{project_id}")).status_code == 204
        assert_problem(await api.post("/leases", json=by_id), 404, "no-such-project")

    async def test_a_wait_that_is_over_says_how_long_it_was(self, api: httpx.AsyncClient) -> None:
        project_id = await create_project(api)
        await create_user(api, project_id)
        wanted = {"project_id": project_id, "env": "stage"}
        await api.post("/leases", json=wanted)
        problem = assert_problem(
            await api.post("/leases", json={**wanted, "wait_seconds": 1}), 409, "pool-exhausted"
        )
        assert 1 <= problem["waited"] < 3

    async def test_a_retry_under_a_key_is_a_replay(self, api: httpx.AsyncClient) -> None:
        project_id = await create_project(api)
        await create_user(api, project_id)
        wanted = {"project_id": project_id, "env": "stage"}
        key = {"Idempotency-Key": "job 7"}
        first = await api.post("/leases", json=wanted, headers=key)
        retry = await api.post("/leases", json={**wanted, "wait_seconds": 5}, headers=key)
        assert (first.status_code, retry.status_code) == (201, 200)
        assert first.json()["id"] == retry.json()["id"]
        assert retry.json()["users"][0]["password"] == PASSWORD
        other = await api.post("/leases", json={**wanted, "owner": "x"}, headers=key)
        assert_problem(other, 422, "idempotency-key-reused")
        await api.post(f"/leases/{first.json()['id']}/release")
        assert_problem(await api.post("/leases", json=wanted, headers=key), 409, "idempotency-key-ended")

    async def test_locks_by_user(self, api: httpx.AsyncClient) -> None:
        user = await create_user(api, await create_project(api))
        locked = await api.post(f"/users/{user['id']}/acquire_lock")
        assert (locked.status_code, locked.json()["users"][0]["password"]) == (200, PASSWORD)
        problem = assert_problem(
            await api.post(f"/users/{user['id']}/acquire_lock", json={}), 409, "user-busy"
        )
        assert problem["locktime"].startswith(locked.json()["acquired_at"].rstrip("Z")[:19])
        assert 0 < problem["expires_in"] <= 915
        for _ in range(2):
            freed = await api.post(f"/users/{user['id']}/release_lock")
            assert (freed.status_code, freed.json()["locktime"]) == (200, None)
        assert_problem(await api.post(f"/users/{uuid4()}/acquire_lock"), 404, "no-such-user")
        assert_problem(await api.post(f"/users/{uuid4()}/release_lock"), 404, "no-such-user")
        lease = (await api.post("/leases", json={"project": "shop", "env": "stage"})).json()
        assert_problem(await api.post(f"/users/{user['id']}/release_lock"), 409, "lease-id-required")
        freed = await api.post(f"/users/{user['id']}/release_lock", json={"lease_id": lease["id"]})
        assert freed.json()["state"] == "free"

    async def test_force_release_needs_a_reason(self, api: httpx.AsyncClient) -> None:
        user = await create_user(api, await create_project(api))
        lease = (await api.post(f"/users/{user['id']}/acquire_lock")).json()
        path = f"/leases/{lease['id']}/force_release"
        assert_problem(await api.post(path, json={}), 422, "invalid-request")
        forced = await api.post(path, json={"reason": "stuck"})
        assert (forced.status_code, forced.json()["ended_by"]) == (200, "forced")
        assert_problem(await api.post(f"/leases/{lease['id']}/release"), 410, "lease-lapsed")
        missing = f"/leases/{uuid4()}"
        assert_problem(await api.post(f"{missing}/force_release", json={"reason": "x"}), 404, "no-such-lease")
        assert_problem(await api.get(missing), 404, "no-such-lease")

    async def test_pools_are_counted(self, api: httpx.AsyncClient) -> None:
        project_id = await create_project(api)
        users = [await create_user(api, project_id) for _ in range(3)]
        await api.post(f"/users/{users[0]['id']}/acquire_lock", json={"ttl_seconds": 100})
        (pool,) = (await api.get("/pools")).json()["items"]
        assert 100 < pool.pop("next_free_in") <= 115
        assert pool == {
            "project_id": project_id, "project": "shop", "env": "stage", "domain": "regular", "total": 3, "free": 2,
            "leased": 1, "resting": 0, "dirty": 0, "chore": 0, "held": 0, "quarantined": 0, "retired": 0,
            "waiting": 0, "oldest_wait": None,
        }  # fmt: skip
