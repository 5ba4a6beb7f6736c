"""The list of users, with its filters."""

import html
import re

import httpx
import pytest

from botfarm.domain.access import Role
from botfarm.web.pages.users import user_list_pages
from support.http import create_project, create_user
from support.pages import Browser, SignIn, rows_of, text_of

XSS = "<script>alert(1)</script>"
QUARANTINE = {"action": "quarantine", "which": "matching"}


async def states(api: httpx.AsyncClient) -> list[str]:
    return sorted(user["state"] for user in (await api.get("/users")).json()["items"])


async def test_a_farm_without_users_says_what_to_do_next(admin: Browser, sign_in: SignIn) -> None:
    page = await admin.get("/ui/users")
    assert page.status_code == 200
    assert '<a href="/ui/users/import">import a file</a>' in page.text
    assert "botfarm users add" in page.text
    viewer = await sign_in("Vera", Role.VIEWER)
    assert "A manager adds them" in (await viewer.get("/ui/users")).text


async def test_the_list_has_what_a_person_asks_of_a_user(admin: Browser, api: httpx.AsyncClient) -> None:
    project_id = await create_project(api)
    free, leased, out = [
        await create_user(api, project_id, login=f"{name}@shop.test", labels={"team": name})
        for name in ("free", "leased", "out")
    ]
    await api.post(f"/users/{leased['id']}/acquire_lock")
    quarantine = {"reason": "asks for a picture", "until": "2999-01-01T00:00:00Z"}
    await api.post(f"/users/{out['id']}/quarantine", json=quarantine)
    page = await admin.get("/ui/users")
    assert sorted(rows_of(page)) == sorted(user["id"] for user in (free, leased, out))
    assert f'<a href="/ui/users/{out["id"]}">out@shop.test</a>' in page.text
    words = text_of(page)
    assert "shop/stage/regular" in words
    assert "team:leased" in words
    assert re.search(r"quarantined [\d: -]+UTC , ends 2999-01-01 00:00 UTC : asks for a picture", words)
    assert re.search(r"leased [\d: -]+UTC , ends [\d: -]+UTC", words)
    assert "data-live" in page.text
    assert int(re.findall(r'data-next="(\d+)"', page.text)[0]) <= 902


@pytest.mark.parametrize("role", Role)
async def test_only_managers_are_offered_changes_and_may_make_them(
    api: httpx.AsyncClient, sign_in: SignIn, role: Role
) -> None:
    user = await create_user(api, await create_project(api))
    person = await sign_in("Ann", role)
    page = await person.get("/ui/users")
    assert page.status_code == 200
    assert rows_of(page) == [user["id"]]
    may = role.includes(Role.MANAGER)
    assert ('form="bulk"' in page.text, "/ui/users/import" in page.text) == (may, may)
    asked = {"action": "retire", "which": "checked", "ids": user["id"], "reason": "r", "confirmed": "yes"}
    answers = [
        await person.get("/ui/users/import"),
        await person.post("/ui/users/bulk", asked),
        await person.upload("login,password,env,domain\n", step="check", project="shop"),
    ]
    assert [answer.status_code for answer in answers] == ([200] * 3 if may else [403] * 3)
    assert "<h1>Forbidden</h1>" in answers[1].text or may
    assert await states(api) == (["retired"] if may else ["free"])


async def test_the_script_gets_the_fragment_and_nothing_while_it_stays_the_same(
    admin: Browser, api: httpx.AsyncClient
) -> None:
    user = await create_user(api, await create_project(api))
    fragment = await admin.get("/ui/users", **{"X-Fragment": "1"})
    assert "<html" not in fragment.text
    assert rows_of(fragment) == [user["id"]]
    etag = fragment.headers["etag"]
    same = await admin.get("/ui/users", **{"X-Fragment": "1", "If-None-Match": etag})
    assert (same.status_code, same.text) == (304, "")
    await api.post(f"/users/{user['id']}/quarantine", json={"reason": "why"})
    changed = await admin.get("/ui/users", **{"X-Fragment": "1", "If-None-Match": etag})
    assert changed.status_code == 200
    assert rows_of(changed) == [user["id"]]


async def test_filters_are_in_the_address(admin: Browser, api: httpx.AsyncClient) -> None:
    shop = await create_project(api)
    other = await create_project(api, name="other")
    ann = await create_user(api, shop, login="ann@shop.test", labels={"team": "a", "x": "1"})
    await create_user(api, shop, login="bob@shop.test", labels={"team": "a"})
    eve = await create_user(api, other, login="eve@shop.test", env="prod")
    await api.post(f"/users/{eve['id']}/retire", json={"reason": "gone"})
    for query, expected in [
        ("login=ANN@shop.test", [ann]),
        ("search=Nn@s", [ann]),
        ("search=%25", []),
        ("search=_", []),
        ("project=other", [eve]),
        ("project=shop&env=stage&domain=regular&state=&health=&login=&label=team:a&label=x:1&label=", [ann]),
        ("state=retired&health=unknown", [eve]),
        ("project=shop&state=retired", []),
    ]:
        page = await admin.get(f"/ui/users?{query}")
        assert (page.status_code, rows_of(page)) == (200, [user["id"] for user in expected]), query
    assert "No user matches this filter" in page.text
    assert "<option selected>shop</option>" in page.text
    assert "There is no such project" in (await admin.get("/ui/users?project=nowhere")).text
    for query in ("state=asleep", "label=nothing", "label=a:1&label=a:2", "cursor=x", "colour=red"):
        assert (await admin.get(f"/ui/users?{query}")).status_code == 422, query


async def test_a_long_list_has_pages_that_keep_the_filter(
    admin: Browser, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_list_pages, "USERS_OF_A_PAGE", 2)
    project_id = await create_project(api)
    made = {(await create_user(api, project_id))["id"] for _ in range(5)}
    seen: list[str] = []
    address = "/ui/users?project=shop&state=free"
    for _ in range(3):
        page = await admin.get(address)
        seen += rows_of(page)
        following = re.findall(r'<a rel="next" href="([^"]*)"', page.text)
        address = html.unescape(following[0]) if following else ""
    assert (address, sorted(seen)) == ("", sorted(made))
    assert "First page" in page.text


async def test_what_people_wrote_is_text_and_nothing_else(admin: Browser, api: httpx.AsyncClient) -> None:
    user = await create_user(api, await create_project(api), labels={"k": XSS, '"><b': "'"})
    await api.post(f"/users/{user['id']}/quarantine", json={"reason": XSS})
    pages = [
        await admin.get("/ui/users"),
        await admin.get("/ui/users", **{"X-Fragment": "1"}),
        await admin.get(f"/ui/users?login={XSS}"),
        await admin.get(f"/ui/users?label=k:{XSS}"),
        await admin.post(f"/ui/users/bulk?label=k:{XSS}", {**QUARANTINE, "label": ""}),
        await admin.post("/ui/users/bulk", {"action": "label", "which": "all", "label": f"k:{XSS}"}),
        await admin.post("/ui/users/bulk", {"action": XSS, "which": XSS}),
        await admin.upload(f"login,{XSS}", XSS),
        await admin.upload(f"login,password,env,domain,label.{XSS}\n{XSS},{XSS},{XSS},{XSS},{XSS}\n", XSS),
    ]
    for page in pages:
        assert "<h1>" in page.text
        assert "<script>" not in page.text
        assert '"><b' not in page.text
    assert sum(html.escape(XSS) in page.text for page in pages) >= 7
