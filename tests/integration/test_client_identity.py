"""The SDK and the commands in a run of a CI without a secret: they get a token by themselves, and renew it in time."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from botfarm_client import AsyncBotfarm, Botfarm
from botfarm_client.connection.exchanging import ExchangingTransport
from botfarm_client.connection.route import Route
from botfarm_client.connection.run_identity import RunIdentity, RunToken, find_identity
from botfarm_client.connection.transport import FarmTransport
from botfarm_client.errors import FarmUnreachableError, IdentityRefusedError, SettingError
from support.app import on_a_socket
from support.farm import TOKEN, open_farm, test_settings
from support.http import create_project, create_user
from support.issuer import Issuer
from support.processes import run_botfarm
from support.stub_server import Answer, Seen, stub_server


@dataclass
class Ci:
    """A farm that trusts an issuer, and the variables of a job of GitHub Actions."""

    url: str
    api: httpx.AsyncClient
    issuer: Issuer
    variables: dict[str, str]
    asked: list[Seen]


@pytest.fixture
async def ci(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Ci]:
    issuer = Issuer()
    (tmp_path / "ci.test.json").write_text(json.dumps(issuer.jwks()))
    numbers = iter(range(1_000))

    def answer(_: Seen) -> Answer:
        return 200, {"count": 1, "value": issuer.token(jti=str(next(numbers)))}

    settings = test_settings(database_url, public_url="https://farm.test", oidc_keys_dir=tmp_path)
    with stub_server() as github:
        github.answer = answer
        async with (
            on_a_socket(settings) as url,
            httpx.AsyncClient(base_url=f"{url}/api/v1", headers={"Authorization": f"Bearer {TOKEN}"}) as api,
        ):
            await create_user(api, await create_project(api))
            variables = {
                "BOTFARM_URL": url,
                "BOTFARM_AUDIENCE": "https://farm.test",
                "BOTFARM_PROJECT": "shop",
                "BOTFARM_ENV": "stage",
                "ACTIONS_ID_TOKEN_REQUEST_URL": f"{github.url}/token?api-version=2.0",
                "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "of-this-job",
            }
            for name, value in variables.items():
                monkeypatch.setenv(name, value)
            yield Ci(url, api, issuer, variables, github.requests)


async def trust(ci: Ci, **fields: object) -> None:
    rule = {
        "name": "shop-ci",
        "issuer": ci.issuer.url,
        "claims": {"repository_id": "7301"},
        "projects": ["shop"],
    }
    made = await ci.api.post("/trust-rules", json={**rule, "envs": ["stage"], **fields})
    assert made.status_code == 201, made.text


def lease_once() -> str:
    with Botfarm() as farm, farm.lease() as lease:
        return lease.user.login


async def test_a_job_of_github_needs_no_token(ci: Ci) -> None:
    await trust(ci)
    assert await asyncio.to_thread(lease_once)
    (asked,) = ci.asked
    assert asked.target == "/token?api-version=2.0&audience=https%3A%2F%2Ffarm.test"
    assert asked.headers["authorization"] == "Bearer of-this-job"
    (lease,) = (await ci.api.get("/leases")).json()["items"]
    assert lease["owner"] == "github acme/shop e2e #57"


async def test_tasks_need_no_token_either(ci: Ci) -> None:
    await trust(ci)
    async with AsyncBotfarm() as farm, farm.lease() as lease:
        assert lease.user.password
    assert len(ci.asked) == 1


async def test_a_job_with_an_identity_token_in_a_variable_needs_no_token(
    ci: Ci, monkeypatch: pytest.MonkeyPatch
) -> None:
    await trust(ci)
    monkeypatch.delenv("ACTIONS_ID_TOKEN_REQUEST_URL")
    monkeypatch.setenv("BOTFARM_ID_TOKEN", ci.issuer.token())
    assert await asyncio.to_thread(lease_once)
    assert ci.asked == []
    with pytest.raises(IdentityRefusedError, match="trust rule") as refused:
        await asyncio.to_thread(lease_once)
    assert ci.issuer.token()[:30] not in str(refused.value)


async def test_commands_need_no_token_and_a_program_under_exec_does_not_get_the_identity(ci: Ci) -> None:
    await trust(ci)
    environment = {**ci.variables, "BOTFARM_ID_TOKEN": "not-needed"}
    shown = await asyncio.to_thread(run_botfarm, "pools", "--json", environment=environment)
    assert json.loads(shown.stdout)["items"][0]["free"] == 1
    program = ("exec", "--", "sh", "-c", 'echo "$BOTFARM_LOGIN $BOTFARM_ID_TOKEN $BOTFARM_TOKEN."')
    ran = await asyncio.to_thread(run_botfarm, *program, environment=environment)
    assert ran.stdout.endswith("@shop.test  .\n"), ran.stderr


async def test_a_ci_that_does_not_answer_is_named_and_not_the_farm(ci: Ci) -> None:
    environment = {**ci.variables, "ACTIONS_ID_TOKEN_REQUEST_URL": "http://127.0.0.1:1/token"}
    refused = await asyncio.to_thread(run_botfarm, "pools", environment=environment)
    assert refused.returncode == 7
    assert refused.stderr.startswith("botfarm: the CI gives no identity token (")
    assert "BOTFARM_URL" not in refused.stderr


async def test_a_refusal_is_one_line_with_the_way_out(ci: Ci) -> None:
    refused = await asyncio.to_thread(run_botfarm, "pools", environment=ci.variables)
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert "trust rule" in refused.stderr
    assert "https://farm.test" in refused.stderr


async def test_a_lease_is_renewed_and_released_with_the_next_token(ci: Ci, database_url: str) -> None:
    """The farm forgets the first token while the lease is held."""
    await trust(ci)
    clock = [0.0]
    identity = find_identity(ci.url)
    assert identity is not None
    token = RunToken(ci.url, identity, now=lambda: clock[0])

    def hold_long() -> None:
        transport = ExchangingTransport(FarmTransport(Route.to(ci.url)), token)
        with Botfarm(token="replaced", transport=transport) as farm:
            lease = farm.acquire()
            first = token._token
            clock[0] = 3_000.0  # ten minutes before the end of the first
            lease.renew()
            assert token._token != first
            lease.release()

    await asyncio.to_thread(hold_long)
    async with open_farm(database_url) as farm:
        assert await farm.sql.fetchval("SELECT count(*) FROM run_tokens") == 2
    (lease,) = (await ci.api.get("/leases")).json()["items"]
    assert lease["ended_by"] == "released"


class _Farm(httpx.BaseTransport):
    """Gives tokens of an hour, until it is told to answer otherwise."""

    def __init__(self) -> None:
        self.exchanges = 0
        self.forgotten: set[str] = set()
        self.is_away = False
        self.entered, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/auth/token"):
            known = request.headers["authorization"] not in self.forgotten
            return httpx.Response(
                200 if known else 401, json={"token": request.headers["authorization"]}, request=request
            )
        self.entered.set()
        self.go_on.wait(30)
        if self.is_away:
            raise httpx.ConnectError("refused")
        self.exchanges += 1
        return httpx.Response(200, json={"access_token": f"token-{self.exchanges}", "expires_in": 3_600})


@pytest.fixture
def farm() -> _Farm:
    return _Farm()


def sent_with(transport: ExchangingTransport) -> str:
    answer = transport.handle_request(httpx.Request("GET", "http://farm.test/api/v1/pools"))
    return str(answer.json()["token"])


def test_a_token_is_renewed_ten_minutes_before_its_end_and_kept_while_that_fails(farm: _Farm) -> None:
    clock = [0.0]
    token = RunToken("http://farm.test", RunIdentity("http://farm.test", token="x"), now=lambda: clock[0])
    transport = ExchangingTransport(farm, token)
    assert [sent_with(transport) for _ in range(2)] == ["Bearer token-1"] * 2
    clock[0] = 3_000.0
    farm.is_away = True
    assert sent_with(transport) == "Bearer token-1"
    clock[0] = 3_031.0
    farm.is_away = False
    assert sent_with(transport) == "Bearer token-2"
    clock[0] += 3_600.0
    farm.is_away = True
    with pytest.raises(FarmUnreachableError):
        sent_with(transport)


def test_a_token_that_the_farm_has_forgotten_is_exchanged_anew_once(farm: _Farm) -> None:
    """As after a restore of the farm, or after this machine slept, when its clock stood still."""
    token = RunToken("http://farm.test", RunIdentity("http://farm.test", token="x"))
    transport = ExchangingTransport(farm, token)
    assert sent_with(transport) == "Bearer token-1"
    farm.forgotten = {"Bearer token-1"}
    assert sent_with(transport) == "Bearer token-2"
    farm.forgotten = {f"Bearer token-{number}" for number in range(1, 9)}
    assert transport.handle_request(httpx.Request("GET", "http://farm.test/api/v1/pools")).status_code == 401
    assert farm.exchanges == 3
    lines = httpx.Request("POST", "http://farm.test/api/v1/users/import", content=iter([b"{}"]))
    assert transport.handle_request(lines).status_code == 401
    assert farm.exchanges == 3


async def test_so_it_is_for_tasks(ci: Ci, database_url: str) -> None:
    await trust(ci)
    async with AsyncBotfarm() as client, open_farm(database_url) as farm:
        async with client.lease():
            pass
        await farm.sql.execute("DELETE FROM run_tokens")
        async with asyncio.timeout(15):  # the farm remembers tokens in use for seconds
            while await farm.sql.fetchval("SELECT count(*) FROM run_tokens") == 0:
                async with client.lease(ttl=60):
                    pass


def test_threads_that_begin_at_once_exchange_one_identity(farm: _Farm) -> None:
    token = RunToken("http://farm.test", RunIdentity("http://farm.test", token="x"))
    transport = ExchangingTransport(farm, token)
    farm.go_on.clear()
    threads = [threading.Thread(target=sent_with, args=(transport,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert farm.entered.wait(30)
    farm.go_on.set()
    for thread in threads:
        thread.join()
    assert farm.exchanges == 1


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("GITHUB_ACTIONS", "permissions: id-token: write"),
        ("GITLAB_CI", "id_tokens: BOTFARM_ID_TOKEN: aud: https://farm.test"),
        ("OTHER", "set BOTFARM_TOKEN"),
    ],
)
def test_a_job_without_any_identity_is_told_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, variable: str, hint: str
) -> None:
    for name in ("GITHUB_ACTIONS", "GITLAB_CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "true")
    with pytest.raises(SettingError, match=hint):
        Botfarm("https://farm.test")
