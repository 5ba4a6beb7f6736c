"""Credentials go through every operation and error of the real processes: only their holder is shown them."""

import asyncio
import base64
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx
import pyotp

from botfarm.crypto.api_tokens import parse_token
from botfarm.crypto.key_ring import generate_key
from support.breakages import clear_text_in, closed, connection_to, constraints_that_fail
from support.canaries import Canaries
from support.driver import Driver, open_driver
from support.dumps import dump_of
from support.postgres import two_roles
from support.processes import BOTFARM, Process, run_botfarm, running
from support.wrong_requests import content_of, wrong_requests

Json = dict[str, Any]
World = dict[str, str]
"""Ids: of each user by its login, and by the names that paths have for them."""
PASSWORD, WRITTEN = "canary-Passw0rd-7f3a91", "canary-Writt3n-51c0de"
SECRET_NAME, SECRET = "canary-Nam3-0b7e44", "canary-S3cret-93ad27"
OPERATORS_PASSWORD = "canary-Op3rator-d41d8c"
BOOTSTRAP = "canary-B00tstrap-token-e1f2"
KEY = generate_key("k1")
SEED = pyotp.random_base32()

KEPT = frozenset({"password", "secret's name", "secret"})
CREDENTIALS = KEPT | {"code"}
BELONGS = {
    ("bootstrap", "create_token", 201): {"token", "token's secret"},
    ("nobody", "login", 200): {"session"},
    ("bootstrap", "apply_config", 200): {"token", "token's secret"},
    ("admin", "export_users", 200): KEPT | {"seed"},
    ("operator", "export_users", 200): KEPT | {"seed"},
    ("holder", "acquire_lease", 201): CREDENTIALS,
    ("holder", "acquire_lease", 200): CREDENTIALS,
    ("limited", "acquire_lease", 201): CREDENTIALS,
    ("holder", "acquire_lock", 200): CREDENTIALS,
    ("holder", "get_lease", 200): KEPT,
    ("holder", "renew_lease", 200): KEPT,
    ("holder", "get_totp", 200): {"code"},
    ("holder", "write_back", 200): KEPT - {"password"} | {"written password"},
    ("holder", "start_rotation", 200): {"password", "written password"},
    ("holder", "confirm_rotation", 200): KEPT - {"password"} | {"written password"},
}
# Documented with other operations. But signing out needs no session, and only a cut-off import is malformed.
NEVER = {"logout": {401}, "import_users": {400}}
# Operations that are made to fail with a 500. No stored value can do that to the others.
BROKEN = {
    "acquire_lease", "acquire_lock", "create_user", "get_user", "get_users", "import_users", "export_users",
    "update_user", "renew_lease", "get_lease", "get_totp", "write_back", "apply_config",
}  # fmt: skip
GONE = str(uuid4())
CLEAR_TEXT = {
    "password": f"{PASSWORD}.{SECRET}.{WRITTEN}",
    "secrets": json.dumps({SECRET_NAME: SECRET}),
    "totp_seed": SEED,
    "labels": json.dumps({"login": "odd", "list": [SECRET]}),
}


def user(world: Json, login: str, **fields: Any) -> Json:
    return {
        "login": f"{login.replace(' ', '-')}@shop.test",
        "password": PASSWORD,
        "project_id": world["project_id"],
        "env": "stage",
        "domain": "regular",
        "labels": {"login": login},
        "secrets": {SECRET_NAME: SECRET},
        "totp_seed": world["seed"],
        **fields,
    }


def lease(login: str, **fields: Any) -> Json:
    return {"project": "shop", "env": "stage", "labels": {"login": login}, **fields}


def file(login: str, **fields: Any) -> Json:
    configured = {"login": f"{login}@shop.test", "env": "stage", "domain": "regular", "labels": {"login": login},
                  "password": PASSWORD, "secrets": {SECRET_NAME: SECRET}, **fields}  # fmt: skip
    token = {"name": "of-file", "role": "viewer", "projects": ["shop"], "envs": ["stage"]}
    project = {"name": "shop", "policy": {"cooldown": 0}, "users": [configured]}
    return {"name": "team", "projects": [project], "tokens": [token], "prune": False, "adopt": False}


def right_bodies(world: World) -> dict[str, Json | None]:
    """Of every operation. None of these is asked for as it stands here."""
    new, wanted = user(world, "new"), file("new")
    return {
        "create_project": {"id": str(uuid4()), "name": "new", "default_ttl": 60},
        "get_projects": None,
        "get_project": None,
        "update_project": {"name": "shop", "cooldown": 0},
        "delete_project": None,
        "create_user": new,
        "import_users": new,
        "export_users": {"credentials": True, "labels": {"login": "new"}, "cursor": None, "limit": 10},
        "get_users": None,
        "get_user": None,
        "update_user": {**new, "session_expires_at": "2027-01-31T12:00:00Z"},
        "quarantine_user": {"reason": "a reason"},
        "restore_user": {"note": "a note"},
        "retire_user": {"reason": "a reason"},
        "change_users": {"action": "restore", "filter": {"all": True}},
        "get_user_history": None,
        "start_rotation": {"password": PASSWORD},
        "confirm_rotation": None,
        "delete_user": None,
        "acquire_lock": {"ttl_seconds": 60, "owner": "job", "metadata": {"a": 1}},
        "release_lock": {"lease_id": world["lease_id"]},
        "acquire_lease": lease("new", count=1, ttl_seconds=60, wait_seconds=0, priority=0, domain="regular",
                               owner="job", metadata={"a": 1}),
        "get_leases": None,
        "get_waiting": None,
        "get_lease": None,
        "renew_lease": {"ttl_seconds": 60},
        "release_lease": {"outcome": "ok", "note": "a note"},
        "force_release_lease": {"reason": "stuck"},
        "get_totp": None,
        "write_back": {"password": WRITTEN, "secrets": {SECRET_NAME: SECRET}},
        "get_pools": None,
        "get_capacity": None,
        "get_pool_stats": None,
        "get_user_stats": None,
        "get_holder_stats": None,
        "create_token": {"name": "ci", "role": "runner", "projects": ["shop"], "envs": ["stage"],
                         "max_leases": 1, "expires_in": 60},
        "get_tokens": None,
        "delete_token": None,
        "plan_config": wanted,
        "apply_config": {**wanted, "fingerprint": "0123456789abcdef"},
        "get_audit": None,
        "login": {"name": "ann", "password": OPERATORS_PASSWORD},
        "logout": None,
    }  # fmt: skip


async def test_no_credential_is_found_where_it_does_not_belong(postgres_url: str, database_url: str) -> None:
    canaries = Canaries()
    for name, value in (
        ("password", PASSWORD),
        ("written password", WRITTEN),
        ("secret's name", SECRET_NAME),
        ("secret", SECRET),
        ("seed", SEED),
        ("operator's password", OPERATORS_PASSWORD),
        ("bootstrap token", BOOTSTRAP),
        ("encryption key", KEY.partition(":")[2]),
    ):
        canaries.add(name, value)
    world: World = {"seed": canaries.add_codes_of("code", SEED)}
    environment = {
        **two_roles(database_url),
        "BOTFARM_ENCRYPTION_KEYS": KEY,
        "BOTFARM_BOOTSTRAP_TOKEN": BOOTSTRAP,
        "BOTFARM_TRUSTED_PROXIES": "127.0.0.1",
        "BOTFARM_LOG_LEVEL": "DEBUG",
        "BOTFARM_PORT": "0",
        "BOTFARM_WORKER_PORT": "0",
        "BOTFARM_REAP_INTERVAL": "0.2",
        "BOTFARM_GAUGES_INTERVAL": "0.2",
    }
    said = {"operators add": add_operator(environment)}
    with (
        running(BOTFARM, "serve", environment=environment) as api,
        running(BOTFARM, "worker", environment=environment) as worker,
    ):
        url = api.url()
        probes = worker.url()
        async with httpx.AsyncClient(base_url=url, timeout=30) as http:
            farm = await open_driver(http)
            await sign_everybody_in(farm, canaries)
            await succeed(farm, world, canaries)
            await ask_for_a_code_that_is_far_away(farm, world, database_url)
            await refuse_crowds(farm, world, database_url)
            async with crowd_that_guesses(farm):
                await refuse(farm, world, canaries)
                ids = [UUID(world["odd"]), UUID(world["also odd"])]
                async with clear_text_in(database_url, ids, **CLEAR_TEXT):
                    await fail(farm, world)
                    said["metrics of the worker"] = await metrics_when(http, probes, 'key_id=""')
                async with constraints_that_fail(database_url):
                    await fail_to_write(farm, world)
                await look_at_everything(farm, world)
                said["answers to what is no HTTP"] = await garble(url)
                said |= await public_pages(farm)
                said["command lines"] = command_lines(api, worker)
                await farm.ask("logout", caller="operator")
                async with closed(postgres_url, database_url):
                    await be_unavailable(farm, world)
                    worker.wait_for('"event": "job failed"')
        for process in (worker, api):
            process.terminate()
            assert process.wait() == 0, process.output
    said |= {"log of the API": api.output, "log of the worker": worker.output}
    said["dump"] = await dump_of(database_url)
    assert_all_was_tried(farm, said)
    assert {where: found for where, text in said.items() if (found := canaries.in_text(text))} == {}
    found = found_in_answers(farm, canaries)
    found["holder", "acquire_lease", 200] |= {
        "code"
    }  # of which a retry gets none in the second of the first try
    assert found == BELONGS


def add_operator(environment: dict[str, str]) -> str:
    command = ("operators", "add", "ann", "--role", "admin")
    added = run_botfarm(*command, environment=environment, stdin=OPERATORS_PASSWORD)
    added.check_returncode()
    return added.stdout + added.stderr


async def sign_everybody_in(farm: Driver, canaries: Canaries) -> None:
    farm.callers["bootstrap"] = {"Authorization": f"Bearer {BOOTSTRAP}"}
    for caller, role, more in (
        ("admin", "admin", {}),
        ("viewer", "viewer", {}),
        ("holder", "runner", {}),
        ("other", "runner", {}),
        ("limited", "runner", {"max_leases": 1}),
    ):
        body = {"name": caller, "role": role, "projects": ["*"], "envs": ["*"], **more}
        token = (await farm.ask("create_token", caller="bootstrap", json=body)).json()["token"]
        farm.callers[caller] = {"Authorization": f"Bearer {token}"}
        parsed = parse_token(canaries.add("token", token))
        assert parsed is not None
        canaries.add("token's secret", parsed.secret)
    answer = await farm.ask("login", caller="nobody", json={"name": "ANN", "password": OPERATORS_PASSWORD})
    session = canaries.add("session", answer.headers["set-cookie"].partition(";")[0].partition("=")[2])
    farm.callers["operator"] = {"Cookie": f"__Host-botfarm={session}"}


async def succeed(farm: Driver, world: World, canaries: Canaries) -> None:
    """Every operation, and what later errors need."""
    for name in ("shop", "empty", "other"):
        created = await farm.ask("create_project", json={"name": name, "lock_delay": 0})
        world["project_id" if name == "shop" else name] = created.json()["id"]
    for login in ("held", "written", "locked", "forced", "free", "odd", "also odd", "quarantined", "rotated", "retired",
                  "spare"):  # fmt: skip
        created = await farm.ask("create_user", json=user(world, login))
        assert created.status_code == 201, created.text
        world[login] = created.json()["id"]
    lines = "\n".join(json.dumps(user(world, login)) for login in ("imported", "also-imported"))
    headers = {"Content-Type": "application/x-ndjson"}
    for on_error in ("fail", "update"):
        await farm.ask("import_users", content=lines, headers=headers, params={"on_error": on_error})
    for caller in ("admin", "operator"):
        await farm.ask("export_users", caller=caller, json={"credentials": True})
    renewed = {"password": PASSWORD, "secrets": {SECRET_NAME: SECRET}, "totp_seed": world["seed"]}
    await farm.ask("update_user", path={"user_id": world["free"]}, json=renewed)
    for name in ("quarantine_user", "restore_user", "quarantine_user"):
        reason = {"note": "mended"} if name == "restore_user" else {"reason": "captcha"}
        await farm.ask(name, path={"user_id": world["quarantined"]}, json=reason)
    await farm.ask("retire_user", path={"user_id": world["retired"]}, json={"reason": "gone"})
    await farm.ask("change_users", json={"action": "restore", "ids": [world["retired"], GONE]})

    world["user_id"] = world["held"]
    world["lease_id"] = await take(farm, "held", headers={"Idempotency-Key": "again"})
    await take(farm, "held", headers={"Idempotency-Key": "again"})
    for caller in ("holder", "viewer"):
        await farm.ask("get_lease", caller=caller, path=world)
    for name in ("renew_lease", "get_totp"):
        await farm.ask(name, caller="holder", path=world)
    path = {"user_id": world["written"], "lease_id": await take(farm, "written")}
    written = {"password": WRITTEN, "secrets": {SECRET_NAME: SECRET}}
    await farm.ask("write_back", caller="holder", path=path, json=written)
    await farm.ask("release_lease", caller="holder", path=path)
    for name in ("acquire_lock", "release_lock"):
        await farm.ask(name, caller="holder", path={"user_id": world["locked"]})
    world["lease of rotated"] = await take(farm, "rotated")
    path = {"user_id": world["rotated"], "lease_id": world["lease of rotated"]}
    await farm.ask("start_rotation", caller="holder", path=path, json={"password": WRITTEN})
    await farm.ask("confirm_rotation", caller="holder", path=path)
    await farm.ask("start_rotation", caller="holder", path=path, json={"password": PASSWORD})
    world["lease of odd"] = await take(farm, "odd")
    world["ended"] = await take(farm, "forced", headers={"Idempotency-Key": "ended"})
    await farm.ask("force_release_lease", path={"lease_id": world["ended"]}, json={"reason": "stuck"})

    await farm.ask("delete_user", path={"user_id": world["spare"]})
    await farm.ask("delete_project", path={"project_id": world["empty"]})
    await farm.ask("update_project", path=world, json={"cooldown": 0})
    world["token_id"] = (await farm.ask("get_tokens")).json()["items"][-1]["id"]
    spare = {"name": "spare", "role": "viewer", "projects": ["shop"], "envs": ["stage"]}
    made = await farm.ask("create_token", caller="bootstrap", json=spare)
    await farm.ask("delete_token", path={"token_id": made.json()["id"]})
    await apply_file(farm, world, canaries)
    await look_at_everything(farm, world)


async def apply_file(farm: Driver, world: World, canaries: Canaries) -> None:
    wanted = file("of-file", totp_seed=world["seed"])
    planned = await farm.ask("plan_config", caller="bootstrap", json=wanted)
    fingerprint = planned.json()["fingerprint"]
    answer = await farm.ask("apply_config", caller="bootstrap", json={**wanted, "fingerprint": fingerprint})
    token = canaries.add("token", answer.json()["tokens"][0]["token"])
    parsed = parse_token(token)
    assert parsed is not None
    canaries.add("token's secret", parsed.secret)
    stale = await farm.ask("apply_config", caller="bootstrap", json={**wanted, "fingerprint": fingerprint})
    assert stale.status_code == 409, stale.text


async def look_at_everything(farm: Driver, world: World) -> None:
    for caller in ("admin", "operator"):
        for name in ("get_projects", "get_project", "get_users", "get_user", "get_user_history", "get_leases",
                     "get_waiting",
                     "get_pools", "get_pool_stats", "get_user_stats", "get_holder_stats",
                     "get_tokens", "get_audit"):  # fmt: skip
            answer = await farm.ask(name, caller=caller, path=world)
            assert answer.status_code == 200, answer.text
        asked = {"project_id": world["project_id"], "quantile": "0.9"}
        answer = await farm.ask("get_capacity", caller=caller, params=asked)
        assert answer.status_code == 200, answer.text
    for state in ("active", "ended"):
        await farm.ask("get_leases", params={"state": state, "owner": PASSWORD, "principal": SECRET})


async def take(farm: Driver, login: str, *, caller: str = "holder", headers: Json | None = None) -> str:
    answer = await farm.ask("acquire_lease", caller=caller, json=lease(login), headers=headers)
    assert answer.is_success, answer.text
    return str(answer.json()["id"])


async def ask_for_a_code_that_is_far_away(farm: Driver, world: World, database_url: str) -> None:
    async with connection_to(database_url) as sql:
        given = "UPDATE users SET code_used_until = now() + interval '1 hour' WHERE id = $1"
        await sql.execute(given, UUID(world["held"]))
    answer = await farm.ask("get_totp", caller="holder", path=world)
    assert answer.status_code == 429, answer.text


async def refuse(farm: Driver, world: World, canaries: Canaries) -> None:
    """Every 4xx that an operation knows, with credentials in what was asked."""
    misplaced = " ".join(canaries.values)
    nothing_there = {"user_id": GONE, "lease_id": GONE, "project_id": GONE, "token_id": "aaaaaaaaaaaa"}
    for name, body in right_bodies(world).items():
        operation = farm.operations[name]
        for expected, request in wrong_requests(operation, misplaced, world, body):
            answer = await farm.ask(name, **request)
            assert answer.status_code in expected, f"{name}, {list(request)}: {answer.text}"
        content = {} if body is None else content_of(operation, body)
        if operation.parameters("path"):
            answer = await farm.ask(name, path=nothing_there, **content)
            assert answer.status_code in {403, 404}, answer.text
        if operation.needs_role is None:
            continue
        for bad in bad_callers(canaries):
            headers = {**content.get("headers", {}), **bad}
            answer = await farm.ask(name, caller="nobody", path=world, **{**content, "headers": headers})
            assert answer.status_code == 401, answer.text
        if operation.needs_role != "viewer":
            answer = await farm.ask(name, caller="viewer", path=world, **content)
            assert answer.status_code == 403, answer.text
    await refuse_by_state(farm, world)
    await refuse_second_import(farm, world)
    await refuse_operators(farm)


async def refuse_crowds(farm: Driver, world: World, database_url: str) -> None:
    """As many as wait for a replay or for statistics while their tables are locked; the others are refused."""
    project = {"project_id": world["project_id"]}
    for name, asked, table in (
        ("get_capacity", project, "refused_requests"),
        ("get_user_stats", {}, "rollup_hours"),
        ("get_holder_stats", {}, "rollup_hours"),
    ):
        async with connection_to(database_url) as sql, sql.transaction():
            await sql.execute(f"LOCK TABLE {table}")
            crowd = [asyncio.create_task(farm.ask(name, params=asked)) for _ in range(12)]
            async with asyncio.timeout(60):
                while 429 not in farm.seen(name):
                    await asyncio.sleep(0.01)
        await asyncio.gather(*crowd)


async def refuse_second_import(farm: Driver, world: World) -> None:
    """The server decides which of two comes first, and refuses the other one."""
    line = json.dumps(user(world, "imported")) + "\n"
    asked = {"params": {"on_error": "skip"}, "headers": {"Content-Type": "application/x-ndjson"}}
    while 429 not in farm.seen("import_users"):
        may_end = asyncio.Event()

        async def slowly(may_end: asyncio.Event = may_end) -> AsyncIterator[bytes]:
            yield line.encode()
            await may_end.wait()

        slow = asyncio.create_task(farm.ask("import_users", content=slowly(), **asked))
        await farm.ask("import_users", content=line, **asked)
        may_end.set()
        await slow


async def refuse_operators(farm: Driver) -> None:
    elsewhere = {"Sec-Fetch-Site": "cross-site"}
    for name, wrong in (("ann", PASSWORD), (PASSWORD, OPERATORS_PASSWORD)):
        sent: Json = {"json": {"name": name, "password": wrong}, "caller": "nobody"}
        await farm.ask("login", **sent, headers={"X-Forwarded-For": "192.0.2.1"})
        await farm.ask("login", **sent, headers=elsewhere)
    await farm.ask("logout", caller="operator", headers=elsewhere)


def bad_callers(canaries: Canaries) -> list[dict[str, str]]:
    """Some are almost right."""
    return [
        headers
        for value in canaries.values
        for headers in (
            {"Authorization": f"Bearer {value}x"},
            {"Authorization": f"Basic {base64.b64encode(f'ann:{value}'.encode()).decode()}"},
            {"Cookie": f"__Host-botfarm={value}x", "User-Agent": value, "Referer": value},
        )
    ]


async def refuse_by_state(farm: Driver, world: World) -> None:
    """What is right and cannot be done as things stand."""
    held = {"user_id": world["held"]}
    over = {"user_id": world["forced"], "lease_id": world["ended"]}
    again, ended = {"Idempotency-Key": "again"}, {"Idempotency-Key": "ended"}
    credentials = {"password": PASSWORD, "secrets": {SECRET_NAME: SECRET}}
    rotated = {"user_id": world["rotated"], "lease_id": world["lease of rotated"]}
    retired = {"user_id": world["retired"]}
    of_the_holder = ("renew_lease", "release_lease", "get_totp", "start_rotation", "confirm_rotation")
    await take(farm, "free", caller="limited")
    for status, name, request in (
        (409, "create_project", {"json": {"name": "shop"}}),
        (409, "update_project", {"path": world, "json": {"name": "other"}}),
        (409, "delete_project", {"path": world}),
        (409, "create_user", {"json": user(world, "held")}),
        (404, "create_user", {"json": user(world, "new", project_id=GONE)}),
        (409, "update_user", {"path": held, "json": {**credentials, "env": "prod"}}),
        (409, "update_user", {"path": {"user_id": world["forced"]}, "json": {"login": "held@shop.test"}}),
        (404, "update_user", {"path": {"user_id": world["forced"]}, "json": {"project_id": GONE}}),
        (409, "delete_user", {"path": held}),
        (409, "acquire_lock", {"path": held, "caller": "holder"}),
        (409, "acquire_lock", {"path": {"user_id": world["quarantined"]}, "caller": "holder"}),
        (409, "quarantine_user", {"path": retired, "json": {"reason": SECRET}}),
        (409, "restore_user", {"path": retired}),
        (409, "start_rotation", {"path": rotated, "caller": "holder", "json": {"password": WRITTEN}}),
        (409, "confirm_rotation", {"path": world, "caller": "holder"}),
        (422, "acquire_lock", {"path": held, "caller": "holder", "headers": again}),
        (429, "acquire_lock", {"path": held, "caller": "limited"}),
        (403, "release_lock", {"path": held, "caller": "other"}),
        (409, "release_lock", {"path": held, "caller": "holder"}),
        (410, "release_lock", {"path": over, "caller": "holder", "json": {"lease_id": over["lease_id"]}}),
        (404, "release_lock", {"path": held, "caller": "holder", "json": {"lease_id": GONE}}),
        (409, "acquire_lease", {"json": lease("held")}),
        (409, "acquire_lease", {"json": lease("held", count=2)}),
        (409, "acquire_lease", {"json": lease("forced"), "caller": "holder", "headers": ended}),
        (422, "acquire_lease", {"json": lease("free"), "caller": "holder", "headers": again}),
        (404, "acquire_lease", {"json": lease("held", project="nowhere")}),
        (404, "acquire_lease", {"json": lease(SECRET)}),
        (429, "acquire_lease", {"json": lease("forced"), "caller": "limited"}),
        (404, "get_capacity", {"params": {"project_id": GONE}}),
        (404, "create_token", {"json": {"name": "x", "role": "viewer", "projects": [SECRET], "envs": ["*"]}}),
        *((403, name, {"path": world, "caller": "other"}) for name in of_the_holder),
        (403, "write_back", {"path": world, "caller": "other", "json": credentials}),
        *((410, name, {"path": over, "caller": "holder"}) for name in of_the_holder),
        (410, "write_back", {"path": over, "caller": "holder", "json": credentials}),
    ):  # fmt: skip
        answer = await farm.ask(name, **request)
        assert answer.status_code == status, f"{name} {status}: {answer.text}"


@asynccontextmanager
async def crowd_that_guesses(farm: Driver) -> AsyncIterator[None]:
    """At one name, so that the last ones are told to slow down; those before them wait for their turn."""
    body = {"name": "nobody", "password": OPERATORS_PASSWORD}
    headers = {"X-Forwarded-For": "192.0.2.66"}
    guesses = [
        asyncio.create_task(farm.ask("login", caller="nobody", json=body, headers=headers)) for _ in range(12)
    ]
    try:
        yield
    finally:
        for each in guesses:
            each.cancel()
        await asyncio.gather(*guesses, return_exceptions=True)


async def fail(farm: Driver, world: World) -> None:
    odd = {"user_id": world["odd"], "lease_id": world["lease of odd"]}
    for name, request in (
        ("get_lease", {}),
        ("renew_lease", {}),
        ("get_totp", {}),
        ("write_back", {"json": {"secrets": {SECRET_NAME: SECRET}}}),
        ("get_user", {}),
        ("get_users", {}),
        ("update_user", {"caller": "admin", "json": {"secrets": {SECRET_NAME: SECRET}}}),
        ("acquire_lock", {"path": {"user_id": world["also odd"]}}),
        ("acquire_lease", {"json": lease("odd")}),
        ("export_users", {"caller": "admin", "json": {"credentials": True}}),
    ):
        answer = await farm.ask(name, **{"caller": "holder", "path": odd, **request})
        assert answer.status_code == 500, f"{name}: {answer.text}"


async def fail_to_write(farm: Driver, world: World) -> None:
    broken, wanted = user(world, "broken"), file("broken")
    plan = (await farm.ask("plan_config", json=wanted)).json()
    for name, request in (
        ("create_user", {"json": broken}),
        ("import_users", content_of(farm.operations["import_users"], broken)),
        ("update_user", {"path": {"user_id": world["forced"]}, "json": {"login": broken["login"]}}),
        ("apply_config", {"json": {**wanted, "fingerprint": plan["fingerprint"]}}),
        ("acquire_lease", {"json": lease("forced", owner=f"broken\n\n{SECRET}")}),
    ):
        answer = await farm.ask(name, **request)
        assert answer.status_code == 500, f"{name}: {answer.text}"


async def metrics_when(http: httpx.AsyncClient, url: str, there: str) -> str:
    async with asyncio.timeout(60):
        while there not in (text := (await http.get(f"{url}/metrics")).text):
            await asyncio.sleep(0.05)
    return text


async def garble(url: str) -> str:
    """What is no HTTP at all."""
    parts, said = urlsplit(url), ""
    for head in (f"{PASSWORD} / HTTP/1.1", f"GET /{SECRET}\x00 HTTP/1.1", f"GET / HTTP/{SEED}"):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(f"{head}\r\nHost: {PASSWORD}\r\nX-{SECRET}: {SECRET}\r\n\r\n".encode())
        writer.write_eof()
        said += (await reader.read()).decode()
        writer.close()
    return said


async def public_pages(farm: Driver) -> dict[str, str]:
    pages = (
        "/metrics", "/openapi.json", "/docs", "/livez", "/readyz", "/startupz",
        f"/{PASSWORD}", f"/docs/{SECRET}", f"/docs/?{SECRET}", f"/api/v1/{SEED}",
        f"/api/v1/users/{PASSWORD}/{SECRET}?{SECRET_NAME}={SECRET}",
    )  # fmt: skip
    said = {}
    for page in pages:
        for caller in ("nobody", "admin"):
            answer = await farm.http.get(page, headers=farm.callers[caller])
            said[f"{page} as {caller}"] = f"{answer.headers}\n\n{answer.text}"
    return said


def command_lines(*processes: Process) -> str:
    """As every account of the machine sees them: in /proc, or by `ps` on a system without /proc."""
    if Path("/proc/self/cmdline").exists():
        seen = {}
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                seen[file.parent.name] = file.read_bytes().decode(errors="replace")
    else:
        command = ["ps", "-A", "-ww", "-o", "pid=,args="]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        seen = dict(line.split(maxsplit=1) for line in listed.splitlines())
    for process in processes:
        assert seen[str(process.pid)]
    return "\n".join(seen.values())


async def be_unavailable(farm: Driver, world: World) -> None:
    for name, body in right_bodies(world).items():
        content = {} if body is None else content_of(farm.operations[name], body)
        if "project_id" in farm.operations[name].parameters("query"):
            content = {"params": {"project_id": world["project_id"]}}
        caller = "operator" if name == "logout" else "admin"
        answer = await farm.ask(name, caller=caller, path=world, **content)
        assert answer.status_code == 503, f"{name}: {answer.text}"


def assert_all_was_tried(farm: Driver, said: dict[str, str]) -> None:
    untried = {}
    for name, operation in farm.operations.items():
        never = NEVER.get(name, set()) | ({403} if operation.needs_role == "viewer" else set())
        never |= set() if name in BROKEN else {500}
        if missing := operation.statuses - never - farm.seen(name):
            untried[name] = missing
    assert untried == {}
    assert '"event": "internal error"' in said["log of the API"]
    assert "Traceback" in said["log of the API"]
    assert "v1.k1." in said["dump"]
    assert all(answer.headers["cache-control"] == "no-store" for answer in farm.answers)


def found_in_answers(farm: Driver, canaries: Canaries) -> dict[tuple[str, str, int], set[str]]:
    found: dict[tuple[str, str, int], set[str]] = {}
    for answer in farm.answers:
        if shown := canaries.in_text(answer.text):
            found.setdefault((answer.caller, answer.operation, answer.status), set()).update(shown)
    return found
