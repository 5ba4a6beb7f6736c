"""People sign in at their provider: a real one on https, with keys of its own."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from botfarm.services.trust.failure_limit import FAILURES
from support.app import api_client
from support.farm import PASSWORD, open_farm, test_settings
from support.http import create_project
from support.issuer import DISCOVERY, Issuer, served_issuer, signing_key
from support.issuer import TOKEN as TOKEN_PATH
from support.postgres import two_roles
from support.processes import run_botfarm
from support.sign_on import PUBLIC_URL, Person, person, reasons, sign_on_settings


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Issuer]:
    with served_issuer(tmp_path, monkeypatch.setenv) as served:
        yield served


@pytest.fixture
async def api(database_url: str, provider: Issuer) -> AsyncIterator[httpx.AsyncClient]:
    async with api_client(sign_on_settings(database_url, provider)) as client:
        await create_project(client)
        yield client


@pytest.fixture
def ann(api: httpx.AsyncClient, provider: Issuer) -> Person:
    return person(api, provider, sub="1", preferred_username="ann", groups=["qa-leads", "others"])


async def test_a_person_signs_in_and_sees_the_page_that_was_wanted(
    api: httpx.AsyncClient, ann: Person, provider: Issuer
) -> None:
    assert "Sign in with Acme" in (await ann.http.get("/ui/sign-in")).text
    await ann.leave()
    assert ann.query["redirect_uri"] == f"{PUBLIC_URL}/ui/sign-in/return"
    assert (ann.query["response_type"], ann.query["code_challenge_method"]) == ("code", "S256")
    back = await ann.come_back()
    assert back.status_code == 200
    assert "url=/ui/users?state=dirty" in back.text
    (form,) = provider.forms
    assert (form["code"], form["client_id"], form["client_secret"]) == ("a-code", "the-farm", "of-the-farm")
    assert len(form["code_verifier"]) >= 43
    assert (await ann.http.get("/ui/users?state=dirty")).status_code == 200
    (entry,) = (await api.get("/audit", params={"action": "login"})).json()["items"]
    assert (entry["principal"], entry["details"]["by"]) == ("operator:ann", provider.url)
    made = await ann.http.post("/api/v1/users/bulk", json={"action": "restore", "filter": {"all": True}})
    assert made.status_code == 200
    assert (await ann.http.get("/api/v1/tokens")).status_code == 403


async def test_the_role_follows_the_groups_and_without_one_the_person_is_out(
    api: httpx.AsyncClient, ann: Person, provider: Issuer
) -> None:
    await ann.sign_in()
    second = person(api, provider, **{**ann.claims, "groups": "support"})
    await second.sign_in()
    assert (await second.http.get("/api/v1/audit")).status_code == 403
    third = person(api, provider, **{**ann.claims, "groups": ["strangers"]})
    refused = await third.sign_in()
    assert refused.status_code == 401
    assert "strangers" not in refused.text
    assert await reasons(api) == ["no role for these groups"]
    for browser in (ann.http, second.http):  # at the next look at the sessions
        seen = await _until_out(browser)
        assert seen.status_code == 401


async def _until_out(browser: httpx.AsyncClient) -> httpx.Response:
    while (seen := await browser.get("/api/v1/pools")).status_code == 200:
        pass
    return seen


async def test_a_person_is_known_by_issuer_and_subject_and_never_by_name(
    api: httpx.AsyncClient, ann: Person, provider: Issuer, database_url: str
) -> None:
    environment = {**two_roles(database_url), "BOTFARM_ENCRYPTION_KEYS": ""}
    added = run_botfarm("operators", "add", "ann", "--role", "admin", environment=environment, stdin=PASSWORD)
    added.check_returncode()
    await ann.sign_in()
    assert (await ann.http.get("/api/v1/tokens")).status_code == 403  # not the local admin ann
    same_name = person(api, provider, **{**ann.claims, "sub": "2", "groups": ["support"]})
    await same_name.sign_in()
    renamed = person(api, provider, **{**ann.claims, "preferred_username": "root"})
    await renamed.sign_in()
    entries = (await api.get("/audit", params={"action": "login"})).json()["items"]
    names = [entry["principal"] for entry in reversed(entries)]
    assert names[0] == names[2]
    assert names[0].startswith("operator:ann-")
    assert names[1].startswith("operator:ann-")
    assert names[0] != names[1]


async def test_a_disabled_person_stays_out_and_a_local_operator_comes_in_while_the_provider_is_away(
    api: httpx.AsyncClient, ann: Person, provider: Issuer, database_url: str
) -> None:
    environment = {**two_roles(database_url), "BOTFARM_ENCRYPTION_KEYS": ""}
    await ann.sign_in()
    listed = run_botfarm("operators", "list", "--json", environment=environment)
    assert [each["issuer"] for each in json.loads(listed.stdout)["items"]] == [provider.url]
    assert provider.url in run_botfarm("operators", "list", environment=environment).stdout
    run_botfarm("operators", "disable", "ann", environment=environment).check_returncode()
    assert (await ann.sign_in()).status_code == 401
    assert await reasons(api) == ["disabled"]
    added = run_botfarm(
        "operators", "add", "root", "--role", "admin", environment=environment, stdin=PASSWORD
    )
    added.check_returncode()
    provider.is_away = True
    local = await ann.http.post("/ui/sign-in", data={"name": "root", "password": PASSWORD})
    assert local.status_code == 303


async def test_a_provider_that_is_away_is_asked_seldom_and_the_page_says_so(
    ann: Person, provider: Issuer
) -> None:
    provider.is_away = True
    for _ in range(3):
        away = await ann.http.get("/ui/sign-in/there")
        assert away.status_code == 401
        assert "local account" in away.text
    assert len(provider.asked) == 1


async def test_clicks_of_strangers_cost_the_provider_one_question(ann: Person, provider: Issuer) -> None:
    for _ in range(3):
        await ann.leave()
    assert provider.asked == [DISCOVERY]


async def test_a_return_may_have_what_providers_add_to_it(ann: Person) -> None:
    await ann.leave()
    added = {"scope": "openid email", "authuser": "0", "hd": "acme.test", "session_state": "x", "iss": "y"}
    assert (await ann.come_back(**added)).status_code == 200


async def test_a_person_who_says_no_at_the_provider_costs_it_nothing(
    api: httpx.AsyncClient, ann: Person, provider: Issuer
) -> None:
    await ann.leave()
    refused = await ann.come_back(code="", error="access_denied")
    assert refused.status_code == 401
    assert await reasons(api) == ["the provider gives no code"]
    assert provider.forms == []


async def test_an_address_that_fails_often_is_held_back_before_the_provider_is_asked(
    api: httpx.AsyncClient, ann: Person, provider: Issuer
) -> None:
    stranger = person(api, provider)
    for _ in range(FAILURES):
        assert (await stranger.http.get("/ui/sign-in/return", params={"code": "x"})).status_code == 401
    held_back = await ann.sign_in()
    assert held_back.status_code == 429
    assert 1 <= int(held_back.headers["retry-after"]) <= 60
    assert provider.forms == []
    assert len(await reasons(api)) == FAILURES


async def test_two_first_sign_ins_of_one_person_make_one_operator(
    api: httpx.AsyncClient, ann: Person, provider: Issuer, database_url: str
) -> None:
    browsers = [ann, person(api, provider, **ann.claims)]
    for browser in browsers:
        await browser.leave()
    tokens = {each.query["state"]: each for each in browsers}
    async with open_farm(database_url) as farm:
        async with farm.sql.transaction():
            await farm.sql.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"person/{provider.url}/1"
            )
            returns = []
            for number, browser in enumerate(tokens.values(), start=1):
                provider.documents.pop(TOKEN_PATH, None)
                returns.append(asyncio.create_task(browser.come_back()))
                await farm.until_blocked(number)
        answers = await asyncio.gather(*returns)
        assert [answer.status_code for answer in answers] == [200, 200]
        assert await farm.sql.fetchval("SELECT count(*) FROM operators") == 1
        assert await farm.sql.fetchval("SELECT count(*) FROM sessions") == 2


async def test_a_role_by_e_mail_needs_a_verified_address(database_url: str, provider: Issuer) -> None:
    settings = sign_on_settings(database_url, provider, oidc_claim="email", oidc_roles="ann@acme.test=viewer")
    async with api_client(settings) as api:
        for verified, status in ((None, 401), ("true", 401), (True, 200)):
            ann = person(api, provider, sub="1", email="ann@acme.test", email_verified=verified)
            assert (await ann.sign_in()).status_code == status
        assert await reasons(api) == ["the e-mail address is not verified"] * 2


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"nonce": "another"}, "another nonce"),
        ({"nonce": None}, "another nonce"),
        ({"aud": "another-client"}, "the ID token is refused: InvalidAudienceError"),
        ({"aud": ["the-farm", "another-client"]}, "the ID token is for another client, too"),
        ({"iss": "https://elsewhere.test"}, "the ID token is refused: InvalidIssuerError"),
        ({"exp": 1_000_000}, "the ID token is refused: ExpiredSignatureError"),
        ({"sub": None}, "the ID token is refused: MissingRequiredClaimError"),
        ({"sub": "x" * 300}, "the ID token has no usable subject"),
        ({"groups": {"qa-leads": True}}, "no role for these groups"),
        ({"groups": [["qa-leads"]]}, "no role for these groups"),
    ],
)
async def test_an_id_token_that_does_not_fit_lets_nobody_in(
    api: httpx.AsyncClient, ann: Person, changed: dict[str, Any], reason: str
) -> None:
    ann.claims |= changed
    assert (await ann.sign_in()).status_code == 401
    assert await reasons(api) == [reason]
    assert (await ann.http.get("/api/v1/pools")).status_code == 401


async def test_several_audiences_are_fine_when_the_token_is_for_the_farm(ann: Person) -> None:
    ann.claims |= {"aud": ["the-farm", "another-client"], "azp": "the-farm"}
    assert (await ann.sign_in()).status_code == 200


async def test_another_key_or_no_token_lets_nobody_in(
    api: httpx.AsyncClient, ann: Person, provider: Issuer
) -> None:
    forged = provider.token({}, key=signing_key("second"), header={"kid": "first"}, sub="1", aud="the-farm")
    for document in ({"id_token": forged}, {"error": "invalid_grant"}, {"id_token": 7}, b"<html>"):
        provider.documents[TOKEN_PATH] = document
        await ann.leave()
        assert (await ann.come_back()).status_code == 401
    assert (await reasons(api))[::-1] == [
        "the ID token is refused: InvalidSignatureError",
        "the provider gives no ID token",
        "the provider gives no ID token",
        "the provider cannot be asked: the document is not JSON",
    ]


async def test_a_return_that_this_browser_did_not_begin_lets_nobody_in(
    api: httpx.AsyncClient, ann: Person, provider: Issuer
) -> None:
    await ann.leave()
    assert (await ann.come_back(state="another")).status_code == 401
    assert (await ann.come_back()).status_code == 401  # the attempt is used up
    victim = person(api, provider, **ann.claims)
    await ann.leave()
    victim.query = ann.query  # an attacker's link in another browser
    assert (await victim.come_back()).status_code == 401
    garbled = person(api, provider, **ann.claims)
    await garbled.leave()
    garbled.http.cookies.clear()
    garbled.http.cookies.set("__Host-botfarm-attempt", "x.y.z", domain="farm.test")
    assert (await garbled.come_back()).status_code == 401
    assert await reasons(api) == [
        "the attempt is over", "no attempt of this browser", "no attempt of this browser", "another state",
    ]  # fmt: skip


async def test_the_way_back_leads_to_pages_of_the_farm_only(ann: Person) -> None:
    await ann.leave("https://evil.test/ui/")
    back = await ann.come_back()
    assert "evil.test" not in back.text
    assert "url=/ui/pools" in back.text


async def test_a_farm_without_a_provider_has_no_such_pages(database_url: str) -> None:
    async with api_client(test_settings(database_url)) as api:
        assert "Sign in with" not in (await api.get("http://farm.test/ui/sign-in")).text
        for page in ("there", "return"):
            assert (await api.get(f"http://farm.test/ui/sign-in/{page}")).status_code == 404
