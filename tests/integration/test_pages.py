"""What holds for every page: who gets in, what a page says of mistakes, and how it is sent."""

import asyncio
import html
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from uuid import uuid4

import httpx
import pytest

from botfarm.domain.access import EVERYTHING, Role
from botfarm.web.app import create_app
from botfarm.web.http.roles import needed_role
from botfarm.web.pages.page_routing import FRAGMENTS_AT_ONCE, PageRoute
from support.app import routes_of
from support.farm import MANAGER, PASSWORD, Farm, test_settings
from support.pages import browser_of
from support.rollups import forge_lease, hours_ago, roll_up
from support.tickets import forge_replica, forge_ticket

PAGES = {
    "/ui/pools": Role.VIEWER,
    "/ui/waiting": Role.VIEWER,
    "/ui/capacity": Role.VIEWER,
    "/ui/audit": Role.MANAGER,
    "/ui/access": Role.ADMIN,
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@pytest.fixture
async def browser(api: httpx.AsyncClient) -> httpx.AsyncClient:
    """A client as a browser is one: with cookies, without a token."""
    del api.headers["authorization"]
    api.base_url = httpx.URL("https://farm.test")
    return api


async def test_a_browser_is_led_to_the_first_page_and_a_machine_is_told(browser: httpx.AsyncClient) -> None:
    person = await browser.get("/", headers={"Accept": "text/html,*/*;q=0.8"})
    assert (person.status_code, person.headers["location"]) == (303, "/ui/pools")
    assert (await browser.get("/ui")).headers["location"] == "/ui/pools"
    machine = await browser.get("/", headers={"Accept": "*/*"})
    assert (machine.status_code, machine.json()["type"]) == (404, "urn:botfarm:problem:no-such-page")


@pytest.mark.parametrize("role", Role)
async def test_a_role_gets_its_pages_and_is_offered_no_others(
    farm: Farm, api: httpx.AsyncClient, role: Role
) -> None:
    async with browser_of(farm, api, role) as browser:
        board = (await browser.get("/ui/pools")).text
        for address, needed in PAGES.items():
            page = await browser.get(address)
            assert page.status_code == (200 if role.includes(needed) else 403), address
            assert page.headers["content-security-policy"] == POLICY
            assert page.headers["cache-control"] == "no-store"
            assert (f'href="{address}"' in board) == role.includes(needed)
            if page.status_code == HTTPStatus.FORBIDDEN:
                assert f"This needs the role {needed}." in page.text


async def test_no_route_of_the_page_is_open_to_a_lower_role(
    farm: Farm, api: httpx.AsyncClient, browser: httpx.AsyncClient, database_url: str
) -> None:
    found = routes_of(create_app(test_settings(database_url)))
    routes = [(route, needed_role(route.endpoint)) for route in found if isinstance(route, PageRoute)]
    assert {route.path for route, role in routes if role is None} == {
        *(
            "/ui",
            "/ui/sign-in",
            "/ui/sign-in/there",
            "/ui/sign-in/return",
            "/ui/sign-out",
            "/ui/static/{name}",
            "/ui/{_:path}",
        )
    }
    asked = [
        (method, re.sub(r"{[\w:]+}", str(uuid4()), route.path), role)
        for route, role in routes
        for method in route.methods
        if role
    ]
    for method, address, _ in asked:
        answer = await browser.request(
            method, address, headers={"Content-Type": "application/x-www-form-urlencoded"}
        )
        assert answer.status_code == HTTPStatus.SEE_OTHER, address
        assert answer.headers["location"].startswith("/ui/sign-in"), address
    for role in Role:
        async with browser_of(farm, api, role) as person:
            for method, address, least in asked:
                if not role.includes(least):
                    answer = await person.request(method, address)
                    assert answer.status_code == HTTPStatus.FORBIDDEN, (role, address)


async def test_who_is_not_signed_in_comes_back_to_the_page_that_was_asked_for(
    farm: Farm, browser: httpx.AsyncClient
) -> None:
    answer = await browser.get("/ui/waiting?project=shop&env=")
    assert (answer.status_code, answer.headers["location"]) == (
        303,
        "/ui/sign-in?next=/ui/waiting%3Fproject%3Dshop",
    )
    await farm.services.operators.add("ann", PASSWORD, Role.VIEWER, EVERYTHING)
    form = (await browser.get(answer.headers["location"])).text
    wanted = re.search(r'name="next" value="([^"]*)"', form)
    assert wanted is not None
    told = {"name": "ann", "password": PASSWORD, "next": wanted[1]}
    assert (await browser.post("/ui/sign-in", data=told)).headers["location"] == "/ui/waiting?project=shop"


@pytest.mark.parametrize(
    "address", ["https://evil.test/ui/", "//evil.test/ui/", "/\\evil.test", "/api/v1/pools", "/ui/\r\nx"]
)
async def test_a_link_to_the_sign_in_leads_nowhere_else(
    farm: Farm, browser: httpx.AsyncClient, address: str
) -> None:
    await farm.services.operators.add("ann", PASSWORD, Role.VIEWER, EVERYTHING)
    told = {"name": "ann", "password": PASSWORD, "next": address}
    assert (await browser.post("/ui/sign-in", data=told)).headers["location"] == "/ui/pools"


async def test_a_link_from_another_site_finds_the_session(
    farm: Farm, api: httpx.AsyncClient, browser: httpx.AsyncClient
) -> None:
    """The browser keeps the strict cookie back until our own page asks for the address."""
    answer = await browser.get("/ui/pools", headers={"Sec-Fetch-Site": "cross-site"})
    assert '<meta http-equiv="refresh" content="0">' in answer.text
    async with browser_of(farm, api, Role.VIEWER) as person:
        page = await person.get("/ui/pools", headers={"Sec-Fetch-Site": "cross-site"})
        assert "<h1>Pools</h1>" in page.text


async def test_a_wrong_password_is_told_and_not_repeated(browser: httpx.AsyncClient) -> None:
    answer = await browser.post("/ui/sign-in", data={"name": "<b>ann", "password": "a canary 7061"})
    assert answer.status_code == HTTPStatus.UNAUTHORIZED
    assert "The name or the password is wrong." in answer.text
    assert 'value="&lt;b&gt;ann"' in answer.text
    assert "7061" not in answer.text


@pytest.mark.parametrize("address", ["/ui/sign-in", "/ui/sign-out", "/ui/access/tokens"])
async def test_a_form_of_another_site_is_refused(farm: Farm, api: httpx.AsyncClient, address: str) -> None:
    async with browser_of(farm, api, Role.ADMIN) as browser:
        told = {"name": "evil", "role": "admin", "password": PASSWORD}
        answer = await browser.post(address, data=told, headers={"Sec-Fetch-Site": "cross-site"})
        assert answer.status_code == HTTPStatus.FORBIDDEN
        assert "A page of another site asked for this" in answer.text
        assert (await browser.get("/ui/pools")).status_code == HTTPStatus.OK
    assert await farm.services.tokens.list(EVERYTHING) == []


async def test_another_site_cannot_sign_a_person_out(browser: httpx.AsyncClient) -> None:
    """The browser sends no cookie with its form, but would take the one that ends the session."""
    for address in ("/ui/sign-out", "/api/v1/auth/logout"):
        answer = await browser.post(address, headers={"Sec-Fetch-Site": "cross-site"})
        assert answer.status_code == HTTPStatus.FORBIDDEN
        assert "set-cookie" not in answer.headers


async def test_nobody_without_a_session_takes_the_turns_of_open_pages(
    farm: Farm, api: httpx.AsyncClient
) -> None:
    received = asyncio.Event()

    async def slow_form() -> AsyncIterator[bytes]:
        yield b"name=a&"
        await received.wait()

    asked = {"X-Fragment": "1"}
    form = {**asked, "Content-Type": "application/x-www-form-urlencoded"}
    async with browser_of(farm, api, Role.VIEWER) as browser:
        slow = [
            asyncio.create_task(browser.post("/ui/sign-in", content=slow_form(), headers=form))
            for _ in range(FRAGMENTS_AT_ONCE)
        ]
        async with asyncio.timeout(20):
            assert (await browser.get("/ui/pools", headers=asked)).status_code == HTTPStatus.OK
        received.set()
        await asyncio.gather(*slow)


async def test_a_page_that_changes_in_a_month_is_asked_for_again_within_an_hour(
    farm: Farm, api: httpx.AsyncClient
) -> None:
    """Timers of browsers end at once when they are for more than 24 days."""
    pool = await farm.pool(1)
    user_id = (await farm.acquire(pool)).users[0].id
    await farm.sql.execute("UPDATE users SET locktime = NULL, expires_at = NULL")
    until = datetime.now(UTC) + timedelta(days=30)
    await farm.services.user_statuses.quarantine(MANAGER, user_id, reason="captcha", until=until)
    async with browser_of(farm, api, Role.VIEWER) as browser:
        page = await browser.get(f"/ui/users/{user_id}", headers={"X-Fragment": "1"})
        assert page.headers["x-next-change"] == "3600"


async def test_after_the_sign_out_no_page_is_left(farm: Farm, api: httpx.AsyncClient) -> None:
    async with browser_of(farm, api, Role.VIEWER) as browser:
        cookies = dict(browser.cookies)
        await browser.post("/ui/sign-out")
        assert not browser.cookies
        browser.cookies.update(cookies)  # a copy of the cookie is worth nothing
        assert (await browser.get("/ui/pools")).status_code == HTTPStatus.SEE_OTHER
        fragment = await browser.get("/ui/pools", headers={"X-Fragment": "1"})
        assert fragment.status_code == HTTPStatus.UNAUTHORIZED
        assert "<html" not in fragment.text


async def test_a_mistake_in_an_address_is_a_page_with_words_and_a_way_back(
    farm: Farm, api: httpx.AsyncClient
) -> None:
    async with browser_of(farm, api, Role.MANAGER) as browser:
        misspelled = await browser.get(
            "/ui/waiting?evn=stage", headers={"Referer": "https://farm.test/ui/audit"}
        )
        assert misspelled.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
        assert "evn: No such parameter" in misspelled.text
        assert '<a href="/ui/audit">Back</a>' in misspelled.text
        unknown = await browser.get("/ui/<script>", headers={"Referer": "https://evil.test/ui/audit"})
        assert unknown.status_code == HTTPStatus.NOT_FOUND
        assert "<script>" not in unknown.text.partition("<main")[2]
        assert '<a href="/ui/pools">Back</a>' in unknown.text
        assert (await browser.get("/ui/waiting?project=none")).status_code == HTTPStatus.NOT_FOUND
        assert (await browser.get("/ui/audit?cursor=x")).status_code == HTTPStatus.UNPROCESSABLE_ENTITY


async def test_a_fragment_is_sent_once_until_something_changes(farm: Farm, api: httpx.AsyncClient) -> None:
    pool = await farm.pool(2)
    async with browser_of(farm, api, Role.VIEWER) as browser:
        page = (await browser.get("/ui/pools")).text
        asked = {"X-Fragment": "1"}
        fragment = await browser.get("/ui/pools", headers=asked)
        assert "<html" not in fragment.text
        assert fragment.text in page
        assert f'data-etag="{html.escape(fragment.headers["etag"])}"'.replace("&quot;", "&#34;") in page
        asked["If-None-Match"] = fragment.headers["etag"]
        assert (await browser.get("/ui/pools", headers=asked)).status_code == HTTPStatus.NOT_MODIFIED
        await farm.acquire(pool, ttl_seconds=60)
        changed = await browser.get("/ui/pools", headers=asked)
        assert changed.status_code == HTTPStatus.OK
        assert f'id="pool-{pool.project_id}-stage-regular"' in changed.text
        # The worker's bell tells when the lease has expired; nothing else tells when its rest is over.
        assert 60 + 10 < int(changed.headers["x-next-change"]) <= 60 + 15 + 2


async def test_a_token_is_made_shown_once_and_revoked_in_the_persons_name(
    farm: Farm, api: httpx.AsyncClient
) -> None:
    project = await farm.project()
    async with browser_of(farm, api, Role.ADMIN) as browser:
        wanted = {
            "name": "ci",
            "role": "runner",
            "project": project.name,
            "env": "stage",
            "max_leases": "",
            "days": "7",
        }
        made = await browser.post("/ui/access/tokens", data=wanted)
        assert "etag" not in made.headers  # a digest of the token, which would help to guess it
        written = re.search(r'<code id="token">([^<]+)</code>', made.text)
        assert written is not None
        (token,) = await farm.services.tokens.list(EVERYTHING)
        assert (token.name, token.role, token.created_by) == ("ci", Role.RUNNER, "operator:admin")
        assert token.expires_at is not None
        assert (token.expires_at - token.created_at).days == 7
        assert written[1] not in (await browser.get("/ui/access")).text
        used = {"Authorization": f"Bearer {written[1]}"}
        assert (await browser.get("/api/v1/pools", headers=used)).status_code == HTTPStatus.OK
        refused = await browser.post("/ui/access/tokens", data={**wanted, "name": "not a name"})
        assert refused.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
        assert "not a name" not in refused.text
        revoked = await browser.post(f"/ui/access/tokens/{token.id}/revoke")
        assert revoked.headers["location"] == "/ui/access"
        assert "revoked" in (await browser.get("/ui/access")).text
        entries = (await browser.get("/ui/audit?principal=operator:admin")).text
    assert "create_token" in entries
    assert "delete_token" in entries
    assert written[1] not in entries


async def test_a_ci_is_trusted_and_no_longer_in_the_persons_name(farm: Farm, api: httpx.AsyncClient) -> None:
    project = await farm.project()
    wanted = {"name": "shop-ci", "issuer": "github", "claims": " repository_id = 7301 \r\nref=refs/heads/main\n",
              "project": project.name, "env": "stage", "max_leases": "2", "hours": "4", "once": "true"}  # fmt: skip
    async with browser_of(farm, api, Role.ADMIN) as browser:
        made = await browser.post("/ui/access/trust-rules", data=wanted)
        assert made.headers["location"] == "/ui/access#trust-rules"
        (rule,) = await farm.services.trust_rules.list(EVERYTHING)
        assert rule.claims == {"repository_id": "7301", "ref": "refs/heads/main"}
        assert (rule.token_ttl, rule.once, rule.max_leases) == (14_400, True, 2)
        assert rule.created_by == "operator:admin"
        assert "repository_id=7301" in (await browser.get("/ui/access")).text
        refused = await browser.post(
            "/ui/access/trust-rules", data={**wanted, "claims": "repository=acme/shop"}
        )
        assert refused.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
        assert "repository_id or repository_owner_id" in refused.text
        without_value = await browser.post(
            "/ui/access/trust-rules", data={**wanted, "claims": "repository_id"}
        )
        assert "claims.repository_id: must not be empty" in without_value.text
        removed = await browser.post(f"/ui/access/trust-rules/{rule.id}/remove")
        assert removed.headers["location"] == "/ui/access#trust-rules"
        assert await farm.services.trust_rules.list(EVERYTHING) == []
        assert "No trust rules yet" in (await browser.get("/ui/access")).text


async def test_requests_that_wait_are_shown_in_their_order(farm: Farm, api: httpx.AsyncClient) -> None:
    pool = await farm.pool(1)
    here = await forge_replica(farm)
    await forge_ticket(farm, pool, here, waited=10, team="<b>red")
    await forge_ticket(farm, pool, here, choices={"plan": ["paid", "<b>trial"], "legacy": None})
    user = await farm.user(pool)
    await forge_ticket(farm, pool, here, user_id=user.id)
    async with browser_of(farm, api, Role.VIEWER) as browser:
        page = (await browser.get("/ui/waiting")).text
        assert ">team:&lt;b&gt;red<" in page
        assert [">no legacy<" in page, ">plan:paid or &lt;b&gt;trial<" in page] == [True, True]
        assert f"only {user.login}" in page
        assert "not known yet" in page
        asked = {"X-Fragment": "1"}
        asked["If-None-Match"] = (await browser.get("/ui/waiting", headers=asked)).headers["etag"]
        assert (await browser.get("/ui/waiting", headers=asked)).status_code == HTTPStatus.NOT_MODIFIED
        assert "No request waits" in (await browser.get("/ui/waiting?env=prod")).text


async def test_the_board_shows_the_waits_of_a_pool_as_bars(farm: Farm, api: httpx.AsyncClient) -> None:
    pool, unused = await farm.pool(1), await farm.pool(1)
    for hours, waited in ((2, 90), (1, 5)):
        began = await hours_ago(farm, hours)
        await forge_lease(farm, pool, began, began, waited=waited)
    await roll_up(farm)
    async with browser_of(farm, api, Role.VIEWER) as browser:
        page = (await browser.get("/ui/pools")).text
    rows = {row.partition('"')[0]: row for row in page.split('id="pool-')}
    used = rows[f"{pool.project_id}-stage-regular"]
    assert used.count("<rect x=") - used.partition("spark")[0].count("<rect x=") == 2
    assert "in the worst hour 95 % were at most" in used
    assert "spark" not in rows[f"{unused.project_id}-stage-regular"]


async def test_the_capacity_page_gives_advice_with_plots_and_their_figures(
    farm: Farm, api: httpx.AsyncClient
) -> None:
    pool = await farm.pool(1)
    unused = await farm.project()
    began = await hours_ago(farm, 30)
    for _ in range(2):
        await forge_lease(farm, pool, began, began + timedelta(minutes=10))
    await roll_up(farm)
    async with browser_of(farm, api, Role.VIEWER) as browser:
        assert "Choose a project." in (await browser.get("/ui/capacity")).text
        page = (await browser.get(f"/ui/capacity?project={pool.project_id}&goal=30&percent=95&days=")).text
        assert "stage/regular: 1 in service, 2 would keep 95 % of waits under 30 s" in page
        assert page.count('<svg viewBox="0 0') == page.count("<summary>The figures") == 2  # sizes, days
        assert "No users here yet" in (await browser.get(f"/ui/capacity?project={unused.id}")).text
        for mistake in ("percent=100", "percent=0", "goal=-1", "goal=nan", "days=0", "days=1000"):
            refused = await browser.get(f"/ui/capacity?project={pool.project_id}&{mistake}")
            assert refused.status_code == HTTPStatus.UNPROCESSABLE_ENTITY, mistake
