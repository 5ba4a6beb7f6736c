"""The envs and domains of a project are its own: what it has, what it lacks, and what goes while users come."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.stock import project_queries, user_queries
from botfarm.db.stock.user_queries import NewUser
from botfarm.domain.access import EVERYTHING, Principal, Role, Scope
from botfarm.domain.credentials import SealedCredentials
from botfarm.domain.pools import Pool
from botfarm.domain.projects import ProjectChanges, ProjectPolicy
from botfarm.errors import InvalidRequestError, NoSuchPoolError, ProjectInUseError
from support.farm import MANAGER, PASSWORD, RUNNER, Farm, open_farm
from support.http import assert_problem, create_project, create_user
from support.pages import Browser
from support.statements import noted_everywhere

OWN: dict[str, Any] = {"envs": ["qa1", "uat"], "domains": ["buyer", "seller"]}
ACQUIRE = {"project": "shop", "env": "qa1"}


async def test_a_project_has_the_envs_and_domains_that_it_was_given(api: httpx.AsyncClient) -> None:
    project_id = await create_project(api, **OWN)
    project = (await api.get(f"/projects/{project_id}")).json()
    assert {name: project[name] for name in OWN} == OWN
    seller = await create_user(api, project_id, env="qa1", domain="seller")
    buyer = await create_user(api, project_id, env="qa1", domain="buyer")
    lease = (await api.post("/leases", json=ACQUIRE)).json()
    assert (lease["env"], lease["domain"], lease["users"][0]["id"]) == ("qa1", "buyer", buyer["id"])
    lease = (await api.post("/leases", json={**ACQUIRE, "domain": "seller"})).json()
    assert lease["users"][0]["id"] == seller["id"]
    (qa1, uat) = [(await api.get("/users", params={"env": env})).json()["items"] for env in OWN["envs"]]
    assert ({user["id"] for user in qa1}, uat) == ({seller["id"], buyer["id"]}, [])
    pools = (await api.get("/pools")).json()["items"]
    assert {(pool["env"], pool["domain"]) for pool in pools} == {("qa1", "seller"), ("qa1", "buyer")}


@pytest.mark.parametrize(
    ("field", "names"),
    [
        ("envs", []),
        ("envs", ["stage", "stage"]),
        ("envs", [f"e{number}" for number in range(33)]),
        ("envs", ["Stage"]),
        ("envs", ["-stage"]),
        ("envs", ["a b"]),
        ("envs", ["x" * 33]),
        ("envs", [""]),
        ("envs", [7]),
        ("envs", "stage"),
        ("envs", None),
        ("domains", []),
        ("domains", ["regular", "*"]),
        ("domains", ["re/gular"]),
        ("domains", ["regular\n"]),
    ],
)
async def test_names_that_are_none_are_refused(api: httpx.AsyncClient, field: str, names: object) -> None:
    project_id = await create_project(api)
    body = {field: names}
    for answer in (
        await api.post("/projects", json={"name": "bank", **body}),
        await api.patch(f"/projects/{project_id}", json=body),
    ):
        problem = assert_problem(answer, 422, "invalid-request")
        assert {error["field"].partition(".")[0] for error in problem["errors"]} == {field}


async def test_as_many_names_as_there_may_be_are_taken_up_to_their_longest(api: httpx.AsyncClient) -> None:
    names = [f"{number:02}" + "._-x" * 7 + "yz" for number in range(32)]
    assert {len(name) for name in names} == {32}
    project_id = await create_project(api, envs=names, domains=names)
    await create_user(api, project_id, env=names[0], domain=names[31])
    assert (await api.get("/pools")).json()["items"][0]["domain"] == names[31]


@pytest.mark.parametrize("place", [{"env": "stage"}, {"domain": "regular"}, {"env": "prod", "domain": "vip"}])
async def test_a_user_where_its_project_has_nothing_is_refused_at_the_field(
    api: httpx.AsyncClient, place: dict[str, str]
) -> None:
    project_id = await create_project(api, **OWN)
    known = {"env": "qa1", "domain": "buyer"}
    body = {"login": "a@shop.test", "password": PASSWORD, "project_id": project_id, **known}
    problem = assert_problem(await api.post("/users", json={**body, **place}), 422, "invalid-request")
    assert [(error["field"], error["code"]) for error in problem["errors"]] == [
        (field, "unknown") for field in place
    ]
    user = (await api.post("/users", json=body)).json()
    moved = await api.patch(f"/users/{user['id']}", json=place)
    assert assert_problem(moved, 422, "invalid-request")["errors"] == problem["errors"]
    assert assert_problem(await api.post("/leases", json={**ACQUIRE, **place}), 404, "no-such-pool")


async def test_a_user_does_not_move_to_a_project_without_its_env(api: httpx.AsyncClient) -> None:
    user = await create_user(api, await create_project(api))
    other = await create_project(api, name="bank", envs=["qa1"])
    answer = await api.patch(f"/users/{user['id']}", json={"project_id": other})
    problem = assert_problem(answer, 422, "invalid-request")
    assert [(error["field"], error["code"]) for error in problem["errors"]] == [("env", "unknown")]
    assert "qa1" in problem["errors"][0]["message"]
    moved = await api.patch(f"/users/{user['id']}", json={"project_id": other, "env": "qa1"})
    assert (moved.json()["project_id"], moved.json()["env"]) == (other, "qa1")


async def test_only_an_env_without_users_goes_and_retired_ones_count(api: httpx.AsyncClient) -> None:
    project_id = await create_project(api, **OWN)
    user = await create_user(api, project_id, env="uat", domain="seller")
    await api.post(f"/users/{user['id']}/retire", json={"reason": "old"})
    without = {"envs": ["qa1", "qa2"], "domains": ["buyer"]}
    path = f"/projects/{project_id}"
    problem = assert_problem(await api.patch(path, json=without), 409, "project-in-use")
    assert "env uat, domain seller" in problem["detail"]
    assert (await api.get(path)).json()["envs"] == OWN["envs"]
    more = await api.patch(path, json={"envs": ["uat", "qa2", "qa1"], "domains": ["seller", "buyer"]})
    assert more.json()["envs"] == ["uat", "qa2", "qa1"]
    await api.delete(f"/users/{user['id']}")
    changed = (await api.patch(path, json=without)).json()
    assert {name: changed[name] for name in without} == without
    (entry, *_) = (await api.get("/audit", params={"action": "update_project"})).json()["items"]
    assert entry["details"] == without


async def test_the_domain_of_an_acquire_that_names_none_follows_the_project(farm: Farm) -> None:
    project = await farm.project()
    canary = await farm.user(Pool(project.id, "stage", "canary"))
    await farm.services.projects.update(MANAGER, project.id, ProjectChanges(domains=("canary", "regular")))
    found, pool = await farm.services.projects.look_up_pool(EVERYTHING, project.name, "stage", None)
    assert (found.default_domain, pool) == ("canary", canary.pool)


async def test_an_env_that_is_new_is_found_at_once_by_every_replica(farm: Farm, database_url: str) -> None:
    async with open_farm(database_url) as other:
        project = await farm.project()
        with pytest.raises(NoSuchPoolError):  # the other replica knows the project from now on
            await other.acquire(Pool(project.id, "qa1", "regular"))
        changed = ProjectChanges(envs=(*project.envs, "qa1"))
        await farm.services.projects.update(MANAGER, project.id, changed)
        user = await farm.user(Pool(project.id, "qa1", "regular"))
        lease = await other.acquire(user.pool)
    assert lease.users[0].id == user.id


async def test_an_acquire_asks_the_database_once_also_where_the_project_names_the_pool(farm: Farm) -> None:
    project = await farm.services.projects.create(
        MANAGER, project_id=None, name="own", policy=ProjectPolicy(), **OWN
    )
    pool = Pool(project.id, "qa1", "buyer")
    for _ in range(2):
        await farm.user(pool)
    await farm.acquire(pool)
    asked: list[str] = []
    with noted_everywhere(lambda statement, _: asked.append(statement)):
        await farm.acquire(pool)
    grants = [statement for statement in asked if "projects" in statement]
    assert len(grants) == 1
    assert "INSERT INTO leases" in grants[0]


async def test_a_scope_of_some_envs_sees_those_of_the_project(farm: Farm) -> None:
    project = await farm.services.projects.create(
        MANAGER, project_id=None, name="own", policy=ProjectPolicy(), **OWN
    )
    scope = Scope(None, frozenset({"uat", "qa7"}))
    assert (await farm.services.projects.get(scope, project.id)).envs == ("uat",)
    assert [each.envs for each in await farm.services.projects.list(scope)] == [("uat",)]
    manager = Principal("m", Role.MANAGER, scope)
    with pytest.raises(InvalidRequestError) as refused:
        await farm.services.users.create(
            manager, login="a@x.test", password=PASSWORD, pool=Pool(project.id, "qa7", "buyer"), labels={}
        )
    assert "qa1" not in str(refused.value.details)


async def test_a_login_of_the_version_before_gets_its_normal_form_in_every_env(farm: Farm) -> None:
    project = await farm.services.projects.create(
        MANAGER, project_id=None, name="own", policy=ProjectPolicy(), **OWN
    )
    user = await farm.user(Pool(project.id, "uat", "buyer"))
    await farm.sql.execute("UPDATE users SET login_key = NULL WHERE id = $1", user.id)
    assert await farm.services.maintenance.fill_login_keys(asyncio.Event()) == (1, [])


async def test_a_project_of_the_version_before_has_the_envs_of_that_version(farm: Farm) -> None:
    await farm.sql.execute(
        """INSERT INTO projects (id, name, default_ttl, max_ttl, max_hold, lock_delay, cooldown)
           VALUES ($1, 'old', 60, 60, 60, 0, 0)""",
        uuid4(),
    )
    project = await farm.services.projects.look_up(EVERYTHING, "old")
    assert (project.envs, project.domains) == (("prod", "preprod", "stage"), ("regular", "canary"))


class TestAnEnvThatGoesWhileUsersCome:
    """Forced orders: each holds the lock of its first half while the other begins."""

    async def test_a_user_that_was_first_keeps_its_env(self, farm: Farm) -> None:
        project = await farm.project()
        async with farm.database.transaction() as session:
            await project_queries.lock_projects(session, [project.id], EVERYTHING)
            await insert(session, Pool(project.id, "preprod", "regular"))
            going = asyncio.create_task(self.without_preprod(farm, project.id))
            await farm.until_blocked()
        with pytest.raises(ProjectInUseError):
            await going
        assert "preprod" in (await farm.services.projects.get(EVERYTHING, project.id)).envs

    @pytest.mark.parametrize("how", ["create", "import", "move"])
    async def test_a_user_that_comes_later_finds_no_such_env(
        self, farm: Farm, api: httpx.AsyncClient, how: str
    ) -> None:
        project = await farm.project()
        there = await farm.user(Pool(project.id, "stage", "regular"))
        changes = ProjectChanges(envs=("prod", "stage"))
        body = {"project_id": str(project.id), "env": "preprod", "domain": "regular"}
        new = {"login": "late@shop.test", "password": PASSWORD, **body}
        async with farm.database.transaction() as session:
            await project_queries.update_project(session, project.id, changes)
            match how:
                case "create":
                    asked = api.post("/users", json=new)
                case "import":
                    headers = {"Content-Type": "application/x-ndjson"}
                    asked = api.post(
                        "/users/import", content=httpx.Request("POST", "/", json=new).content, headers=headers
                    )
                case _:
                    asked = api.patch(f"/users/{there.id}", json={"env": "preprod"})
            coming = asyncio.create_task(asked)
            await farm.until_blocked()
        problem = assert_problem(await coming, 422, "invalid-request")
        assert [(error["field"], error["code"]) for error in problem["errors"]] == [("env", "unknown")]
        assert not await farm.sql.fetchval("SELECT count(*) FROM users WHERE env = 'preprod'")

    async def without_preprod(self, farm: Farm, project_id: UUID) -> None:
        await farm.services.projects.update(MANAGER, project_id, ProjectChanges(envs=("prod", "stage")))


async def insert(session: AsyncSession, pool: Pool) -> None:
    sealed = SealedCredentials("x", None, None)
    assert await user_queries.insert_user(
        session, NewUser(uuid4(), "first@shop.test", "first@shop.test", sealed, pool, "{}")
    )


async def test_forms_offer_the_names_of_the_chosen_project_or_of_all(
    admin: Browser, api: httpx.AsyncClient
) -> None:
    await create_project(api, **OWN)
    await create_project(api, name="bank", envs=["uat", "live"])
    everywhere = (await admin.get("/ui/users")).text
    for name in ("qa1", "uat", "live", "buyer", "seller", "regular"):
        assert everywhere.count(f"<option>{name}</option>") == 1
    in_shop = (await admin.get("/ui/users?project=shop&env=gone")).text
    assert "<option>uat</option>" in in_shop
    assert "<option>live</option>" not in in_shop
    assert "<option selected>gone</option>" in in_shop  # the past may have it, and the filter is in force
    made = await admin.post(
        "/ui/access/tokens", {"name": "ci", "role": "runner", "project": "*", "env": "live"}
    )
    assert made.status_code == 200
    (token,) = (await api.get("/tokens")).json()["items"]
    assert token["envs"] == ["live"]


async def test_a_lease_of_an_env_can_be_read_after_the_env_is_gone(
    farm: Farm, api: httpx.AsyncClient
) -> None:
    project = await farm.project()
    user = await farm.user(Pool(project.id, "preprod", "regular"))
    lease = await farm.acquire(user.pool)
    await farm.services.leases.release(RUNNER, lease.id)
    await farm.services.users.delete(MANAGER, user.id)
    await farm.services.projects.update(MANAGER, project.id, ProjectChanges(envs=("prod", "stage")))
    assert (await api.get(f"/leases/{lease.id}")).json()["env"] == "preprod"
