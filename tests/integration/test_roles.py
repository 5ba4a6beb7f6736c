"""Every route with every role and scope. Rows outside of a principal's scope do not exist for it."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio

from botfarm.domain.access import Role
from botfarm.web.app import create_app
from botfarm.web.http.roles import needed_role, public
from botfarm.web.http.routing import FarmRoute, api_router
from botfarm.web.pages.page_routing import PageRoute
from support.app import api_client, routes_of
from support.farm import PASSWORD, test_settings
from support.http import assert_problem, create_project, create_user
from support.postgres import fresh_database

Json = dict[str, Any]
SEED = "JBSWY3DPEHPK3PXP"
SCOPES = {
    "everything": (["*"], ["*"]),
    "its project": (["here"], ["*"]),
    "its project and env": (["here"], ["stage"]),
    "another env": (["here"], ["prod"]),
    "another project": (["elsewhere"], ["*"]),
}
SEES = {"everything", "its project", "its project and env"}
WHOLE_PROJECT = {"everything", "its project"}


@dataclass(frozen=True)
class Case:
    """A request on something of the project `here` in `stage`. It succeeds where role and scope allow it."""

    role: Role | None
    request: tuple[str, str]
    status: int
    body: Json | None = None
    elsewhere: tuple[int, str] | None = None
    """The problem where the scope does not reach it; None for lists, which are empty then."""
    scopes: frozenset[str] = field(default=frozenset(SEES))


VIEWER, RUNNER, _KEEPER, MANAGER, ADMIN = Role
NO_PROJECT, NO_USER, NO_LEASE = (404, "no-such-project"), (404, "no-such-user"), (404, "no-such-lease")
POLICY = {"default_ttl": 60}
FILE = {
    "name": "{new}",
    "projects": [{"name": "here", "users": [{"login": "{new}@shop.test", "env": "stage"}]}],
}
CASES = {
    "create_project": Case(
        ADMIN, ("POST", "/projects"), 201, {"name": "{new}"}, (403, "forbidden"), frozenset({"everything"})
    ),
    "get_projects": Case(VIEWER, ("GET", "/projects"), 200, scopes=frozenset({*SEES, "another env"})),
    "get_project": Case(
        VIEWER,
        ("GET", "/projects/{project}"),
        200,
        elsewhere=NO_PROJECT,
        scopes=frozenset({*SEES, "another env"}),
    ),
    "update_project": Case(
        ADMIN, ("PATCH", "/projects/{project}"), 200, POLICY, NO_PROJECT, frozenset(WHOLE_PROJECT)
    ),
    "delete_project": Case(
        ADMIN,
        ("DELETE", "/projects/{project}"),
        409,  # it has a user
        elsewhere=NO_PROJECT,
        scopes=frozenset(WHOLE_PROJECT),
    ),
    "create_user": Case(
        MANAGER,
        ("POST", "/users"),
        201,
        {
            "login": "{new}@shop.test",
            "password": PASSWORD,
            "project_id": "{project}",
            "env": "stage",
            "domain": "regular",
        },
        NO_PROJECT,
    ),
    "import_users": Case(MANAGER, ("POST", "/users/import"), 200, elsewhere=(422, "invalid-request")),
    "export_users": Case(MANAGER, ("POST", "/users/export"), 200, {}),
    "get_users": Case(VIEWER, ("GET", "/users"), 200),
    "get_user": Case(VIEWER, ("GET", "/users/{user}"), 200, elsewhere=NO_USER),
    "update_user": Case(MANAGER, ("PATCH", "/users/{user}"), 200, {"labels": {"a": "b"}}, NO_USER),
    "get_user_history": Case(VIEWER, ("GET", "/users/{user}/history"), 200, elsewhere=NO_USER),
    "quarantine_user": Case(MANAGER, ("POST", "/users/{user}/quarantine"), 200, {"reason": "why"}, NO_USER),
    "restore_user": Case(MANAGER, ("POST", "/users/{user}/restore"), 200, {}, NO_USER),
    "retire_user": Case(MANAGER, ("POST", "/users/{user}/retire"), 200, {"reason": "why"}, NO_USER),
    "change_users": Case(MANAGER, ("POST", "/users/bulk"), 200, {"action": "restore", "ids": ["{user}"]}),
    "delete_user": Case(MANAGER, ("DELETE", "/users/{free_user}"), 204, elsewhere=NO_USER),
    "acquire_lock": Case(RUNNER, ("POST", "/users/{free_user}/acquire_lock"), 200, {}, NO_USER),
    "release_lock": Case(
        RUNNER, ("POST", "/users/{user}/release_lock"), 200, {"lease_id": "{lease}"}, NO_LEASE
    ),
    "acquire_lease": Case(
        RUNNER, ("POST", "/leases"), 201, {"project_id": "{project}", "env": "stage"}, NO_PROJECT
    ),
    "get_leases": Case(VIEWER, ("GET", "/leases"), 200),
    "get_waiting": Case(VIEWER, ("GET", "/leases/waiting"), 200),
    "get_lease": Case(VIEWER, ("GET", "/leases/{lease}"), 200, elsewhere=NO_LEASE),
    "renew_lease": Case(RUNNER, ("POST", "/leases/{lease}/renew"), 200, {}, NO_LEASE),
    "release_lease": Case(RUNNER, ("POST", "/leases/{lease}/release"), 200, {}, NO_LEASE),
    "force_release_lease": Case(
        MANAGER, ("POST", "/leases/{lease}/force_release"), 200, {"reason": "stuck"}, NO_LEASE
    ),
    "get_totp": Case(RUNNER, ("GET", "/leases/{lease}/users/{user}/totp"), 200, elsewhere=NO_LEASE),
    "write_back": Case(
        RUNNER, ("PATCH", "/leases/{lease}/users/{user}"), 200, {"secrets": {"a": 1}}, NO_LEASE
    ),
    "start_rotation": Case(RUNNER, ("POST", "/leases/{lease}/users/{user}/rotation"), 200, {}, NO_LEASE),
    "confirm_rotation": Case(
        RUNNER,
        ("POST", "/leases/{lease}/users/{user}/rotation/confirm"),
        409,  # none is under way
        elsewhere=NO_LEASE,
    ),
    "get_pools": Case(VIEWER, ("GET", "/pools"), 200),
    "get_capacity": Case(
        VIEWER,
        ("GET", "/capacity?project_id={project}"),
        200,
        elsewhere=NO_PROJECT,
        scopes=frozenset({*SEES, "another env"}),
    ),
    "get_pool_stats": Case(VIEWER, ("GET", "/stats/pools"), 200),
    "get_user_stats": Case(VIEWER, ("GET", "/stats/users"), 200),
    "get_holder_stats": Case(VIEWER, ("GET", "/stats/holders"), 200),
    "create_token": Case(
        ADMIN,
        ("POST", "/tokens"),
        201,
        {"name": "ci", "role": "runner", "projects": ["{project}"], "envs": ["stage"]},
        NO_PROJECT,
    ),
    "get_tokens": Case(ADMIN, ("GET", "/tokens"), 200),
    "delete_token": Case(ADMIN, ("DELETE", "/tokens/{token}"), 204, elsewhere=(404, "no-such-token")),
    "plan_config": Case(MANAGER, ("POST", "/config/plan"), 200, FILE, (422, "invalid-request")),
    "apply_config": Case(
        MANAGER,
        ("POST", "/config/apply"),
        409,  # of another plan
        {**FILE, "fingerprint": "x"},
        (422, "invalid-request"),
    ),
    "get_audit": Case(MANAGER, ("GET", "/audit"), 200),
    "login": Case(None, ("POST", "/auth/login"), 401, {"name": "nobody", "password": PASSWORD}),
    "logout": Case(None, ("POST", "/auth/logout"), 200),
}
# Another env of the project is no reason to deny that the project is there.
ENV_PROBLEMS = {
    "create_user": (403, "forbidden"),
    "acquire_lease": (404, "no-such-pool"),
    "update_project": (403, "forbidden"),
    "delete_project": (403, "forbidden"),
    "create_token": (403, "forbidden"),
}


@dataclass(frozen=True)
class World:
    """What a case's placeholders stand for."""

    names: dict[str, str]

    def fill(self, template: Any) -> Any:
        match template:
            case str():
                return template.format_map(self.names)
            case dict():
                return {key: self.fill(value) for key, value in template.items()}
            case list():
                return [self.fill(value) for value in template]
            case _:
                return template


async def token_for(api: httpx.AsyncClient, role: Role, projects: list[str], envs: list[str]) -> str:
    body = {"name": "tried", "role": role, "projects": projects, "envs": envs}
    answer = await api.post("/tokens", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


@dataclass(frozen=True)
class Stage:
    """One farm for all cases: the projects `here` and `elsewhere`, a token for each role and scope."""

    api: httpx.AsyncClient
    project: str
    tokens: dict[tuple[Role, str], str]
    worlds: dict[object, World] = field(default_factory=dict)
    """Recreates the rows, because a case that succeeds uses them up."""

    async def world_of(self, caller: object, headers: dict[str, str]) -> World:
        """A leased and a free user in `here`; the lease is that of the headers."""
        if caller not in self.worlds:
            user = await create_user(self.api, self.project, totp_seed=SEED)
            free = await create_user(self.api, self.project)
            lease = await self.api.post(f"/users/{user['id']}/acquire_lock", headers=headers)
            assert lease.status_code == 200, lease.text
            body = {"name": "ci", "role": "runner", "projects": [self.project], "envs": ["stage"]}
            self.worlds[caller] = World(
                {
                    "project": self.project,
                    "user": user["id"],
                    "free_user": free["id"],
                    "lease": lease.json()["id"],
                    "token": (await self.api.post("/tokens", json=body)).json()["id"],
                    "new": f"new-{uuid4().hex}",
                }
            )
        return self.worlds[caller]


@pytest.fixture(scope="module")
def stage_url(postgres_url: str, template: str) -> Iterator[str]:
    with fresh_database(postgres_url, template=template) as url:
        yield url


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stage(stage_url: str) -> AsyncIterator[Stage]:
    async with api_client(test_settings(stage_url)) as api:
        project = await create_project(api, name="here")
        await create_project(api, name="elsewhere")
        tokens = {
            (role, scope): await token_for(api, role, projects, envs)
            for role, (scope, (projects, envs)) in product(Role, SCOPES.items())
        }
        yield Stage(api, project, tokens)


async def ask(api: httpx.AsyncClient, case: Case, world: World, headers: dict[str, str]) -> httpx.Response:
    method, path = case.request
    if path == "/users/import":
        line = CASES["create_user"].body
        content = httpx.Request("POST", "http://x", json=world.fill(line)).content
        return await api.post(
            path, content=content, headers={**headers, "Content-Type": "application/x-ndjson"}
        )
    body = {} if case.body is None else {"json": world.fill(case.body)}
    return await api.request(method, world.fill(path), headers=headers, **body)


def test_every_route_is_walked_here_with_the_role_that_it_declares(database_url: str) -> None:
    everything = list(routes_of(create_app(test_settings(database_url))))
    # Those of the page are walked in test_pages, but for the way to it.
    found = [route for route in everything if not isinstance(route, PageRoute) and route.path != "/"]
    operations = {route.name: needed_role(route.endpoint) for route in found if isinstance(route, FarmRoute)}
    assert operations == {name: case.role for name, case in CASES.items()}
    # Beside the API there are only probes and metrics, each declared public, and the framework's documents.
    others = [route for route in found if not isinstance(route, FarmRoute)]
    documents = {"/openapi.json", "/docs", "/docs/oauth2-redirect", "/static-offline-docs"}
    assert {route.path for route in others} - documents == {"/livez", "/readyz", "/startupz", "/metrics"}
    assert [needed_role(route.endpoint) for route in others if route.path not in documents] == [None] * 4


def test_a_route_that_declares_nothing_does_not_start() -> None:
    router = api_router("tests")

    async def forgotten() -> None: ...

    with pytest.raises(TypeError, match="forgotten declares no role"):
        router.get("/forgotten")(forgotten)
    router.get("/remembered")(public(forgotten))


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("operation", [name for name, case in CASES.items() if case.role])
@pytest.mark.usefixtures("code_clock")
async def test_what_each_role_and_scope_may(stage: Stage, operation: str) -> None:
    case = CASES[operation]
    assert case.role is not None
    for (role, scope), token in stage.tokens.items():
        headers = {"Authorization": f"Bearer {token}"}
        may_hold = role.includes(RUNNER) and scope in SEES
        caller = (role, scope) if may_hold else None
        world = await stage.world_of(caller, headers if may_hold else {})
        answer = await ask(stage.api, case, world, headers)
        context = f"{operation} as {role} of {scope}"
        if not role.includes(case.role):
            assert_problem(answer, 403, "forbidden")
        elif scope in case.scopes:
            assert answer.status_code == case.status, f"{context}: {answer.text}"
            if case.request[0] != "GET":
                del stage.worlds[caller]
        elif case.elsewhere is None:
            assert answer.status_code == 200, context
            hidden = "token" if operation == "get_tokens" else "project"
            assert world.names[hidden] not in answer.text, context
        elif scope in {"another env", "its project and env"} and operation in ENV_PROBLEMS:
            assert_problem(answer, *ENV_PROBLEMS[operation])
        elif operation == "create_project":
            assert_problem(answer, 403, "forbidden")
        else:
            assert_problem(answer, *case.elsewhere)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("operation", [name for name, case in CASES.items() if case.role])
async def test_without_a_token_nothing_is_told(
    stage: Stage, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await stage.world_of(None, {})
    monkeypatch.delitem(stage.api.headers, "Authorization")
    assert_problem(await ask(stage.api, CASES[operation], world, {}), 401, "unauthenticated")
    bad = {"Authorization": "Bearer bf_aaaaaaaaaaaa_not-a-token"}
    assert_problem(await ask(stage.api, CASES[operation], world, bad), 401, "unauthenticated")
