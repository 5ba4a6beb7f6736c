"""The pages of users: the list, a change of many, and the import of a file."""

import html
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import Any

import httpx
import pytest

from botfarm.domain.access import EVERYTHING, Role
from botfarm.services.stock import bulk
from botfarm.web.pages import user_list_pages
from support.app import api_client
from support.farm import PASSWORD, Farm, test_settings
from support.http import LEASE, create_project, create_user

SITE = "http://farm.test"
XSS = "<script>alert(1)</script>"
SECRET = "hunter2-canary"
QUARANTINE = {"action": "quarantine", "which": "matching"}


@dataclass
class Browser:
    """One person who is signed in, or a token; without scripts."""

    client: httpx.AsyncClient

    async def get(self, address: str, **headers: str) -> httpx.Response:
        return await self.client.get(SITE + address, headers=headers)

    async def post(self, address: str, data: dict[str, Any], **headers: str) -> httpx.Response:
        return await self.client.post(SITE + address, data=data, headers=headers)

    async def confirm(self, page: httpx.Response, **typed: str) -> httpx.Response:
        """Sends the form of the page of a dry run."""
        form = page.text[page.text.index('<form class="fields"') :]
        (address,) = re.findall(r'<form class="fields" method="post" action="([^"]*)"', form)
        fields: dict[str, list[str]] = {}
        for name, value in re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form):
            fields.setdefault(name, []).append(html.unescape(value))
        return await self.post(html.unescape(address), {**fields, "confirmed": "yes", **typed})

    async def upload(self, content: str | bytes, name: str = "users.csv", **fields: str) -> httpx.Response:
        data = {"step": "import", **fields}
        files = {"file": (name, content)}
        return await self.client.post(f"{SITE}/ui/users/import", data=data, files=files)


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """Over plain http, so that the cookie of a session comes back."""
    async with api_client(test_settings(database_url, cookie_insecure=True)) as client:
        yield client


@pytest.fixture
def admin(api: httpx.AsyncClient) -> Browser:
    return Browser(api)


SignIn = Callable[[str, Role], Any]


@pytest.fixture
def sign_in(api: httpx.AsyncClient, farm: Farm) -> SignIn:
    async def sign_in(name: str, role: Role) -> Browser:
        await farm.services.operators.add(name, PASSWORD, role, EVERYTHING)
        client = httpx.AsyncClient(transport=api._transport)
        answer = await client.post(f"{SITE}/ui/sign-in", data={"name": name, "password": PASSWORD})
        assert answer.status_code == 303, answer.text
        return Browser(client)

    return sign_in


def text_of(page: httpx.Response) -> str:
    """What a person reads."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page.text)).split())


def rows_of(page: httpx.Response) -> list[str]:
    return re.findall(r'<tr data-part id="user-([0-9a-f-]{36})">', page.text)


async def states(api: httpx.AsyncClient) -> list[str]:
    return sorted(user["state"] for user in (await api.get("/users")).json()["items"])


# The list


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


# A change of many


async def test_a_change_is_shown_before_it_is_made_and_then_told_for_each(
    api: httpx.AsyncClient, sign_in: SignIn, farm: Farm
) -> None:
    project_id = await create_project(api)
    free, gone, other = [await create_user(api, project_id, labels={"tenant": t}) for t in "aab"]
    await api.post(f"/users/{gone['id']}/retire", json={"reason": "gone"})
    ann = await sign_in("Ann", Role.MANAGER)
    check = await ann.post("/ui/users/bulk?label=tenant:a", QUARANTINE)
    assert check.status_code == 200
    assert "All that match the filter: label tenant:a." in text_of(check)
    assert "1 of 2 users would be quarantined. 1 could not." in text_of(check)
    assert f"{gone['login']} The user is retired, for good." in text_of(check)
    assert await states(api) == ["free", "free", "retired"]
    done = await ann.confirm(check, reason="the tenant moves")
    assert "1 done, 1 failed (of 2)." in text_of(done)
    assert f"{gone['login']} The user is retired, for good." in text_of(done)
    assert await states(api) == ["free", "quarantined", "retired"]
    assert (await api.get(f"/users/{other['id']}")).json()["state"] == "free"
    by = await farm.sql.fetch("SELECT principal, details FROM audit WHERE action = 'quarantine_user'")
    assert [row["principal"] for row in by] == ["operator:Ann"]
    assert '"the tenant moves"' in by[0]["details"]
    assert (await api.get(f"/users/{free['id']}")).json()["status_by"] == "operator:Ann"


async def test_a_reason_is_asked_for_only_where_it_hurts(admin: Browser, api: httpx.AsyncClient) -> None:
    await create_user(api, await create_project(api))
    for action in ("quarantine", "retire"):
        check = await admin.post("/ui/users/bulk", {"action": action, "which": "all"})
        assert 'name="reason"' in check.text
        refused = await admin.confirm(check, reason="")
        assert refused.status_code == 422
        assert "reason: Field required" in text_of(refused)
    assert await states(api) == ["free"]
    for action, fields in (("label", {"label": "a:b"}), ("delete", {})):
        check = await admin.post("/ui/users/bulk", {"action": action, "which": "all", **fields})
        assert 'name="reason"' not in check.text
        assert "1 done, 0 failed (of 1)." in text_of(await admin.confirm(check))
    assert await states(api) == []


async def test_checked_rows_are_changed_and_no_others(admin: Browser, api: httpx.AsyncClient) -> None:
    project_id = await create_project(api)
    ids = [(await create_user(api, project_id))["id"] for _ in range(3)]
    chosen = {"action": "quarantine", "which": "checked"}
    nothing = await admin.post("/ui/users/bulk?state=free", chosen)
    assert (nothing.status_code, "check the rows of some users first" in nothing.text) == (422, True)
    await api.delete(f"/users/{ids[0]}")
    check = await admin.post("/ui/users/bulk?state=free", {**chosen, "ids": ids[:2]})
    assert "1 of 2 users would be quarantined. 1 could not." in text_of(check)
    assert f"{ids[0]} There is no such user." in text_of(check)
    assert "1 done, 1 failed (of 2)." in text_of(await admin.confirm(check, reason="why"))
    assert (await api.get(f"/users/{ids[1]}")).json()["state"] == "quarantined"
    assert (await api.get(f"/users/{ids[2]}")).json()["state"] == "free"


async def test_everybody_is_changed_only_when_the_form_says_all(
    admin: Browser, api: httpx.AsyncClient
) -> None:
    await create_user(api, await create_project(api))
    refused = await admin.post("/ui/users/bulk", {"action": "delete", "which": "matching"})
    assert refused.status_code == 422
    assert "a filter that matches everything needs all: true" in text_of(refused)
    page = await admin.get("/ui/users")
    assert 'value="all"' in page.text
    assert 'value="matching"' not in page.text
    filtered = await admin.get("/ui/users?state=free")
    assert 'value="all"' not in filtered.text
    assert 'value="matching"' in filtered.text


async def test_labels_are_set_and_removed(admin: Browser, api: httpx.AsyncClient) -> None:
    user = await create_user(api, await create_project(api), labels={"old": "1"})
    for label, expected in (("new:a:b", {"old": "1", "new": "a:b"}), ("old", {"new": "a:b"})):
        check = await admin.post(
            "/ui/users/bulk?state=free", {**QUARANTINE, "action": "label", "label": label}
        )
        assert "1 of 1 user would be labelled." in text_of(check)
        await admin.confirm(check)
        assert (await api.get(f"/users/{user['id']}")).json()["labels"] == expected
    without = await admin.post("/ui/users/bulk?state=free", {**QUARANTINE, "action": "label"})
    assert (without.status_code, "key to remove it" in without.text) == (422, True)


async def test_why_a_user_was_left_out_is_said_in_words(admin: Browser, api: httpx.AsyncClient) -> None:
    project_id = await create_project(api)
    await create_user(api, project_id, labels={f"k{n}": "" for n in range(64)})
    await api.post("/leases", json=LEASE)
    for action, fields, why in (
        ("delete", {}, "The user is leased, or rests after a lease."),
        ("label", {"label": "more:1"}, "The user would have more than 64 labels."),
    ):
        page = await admin.post("/ui/users/bulk", {"action": action, "which": "all", **fields})
        assert "0 of 1 user would be" in text_of(page)
        assert why in text_of(page)
        assert 'name="confirmed"' not in page.text
    restore = await admin.post("/ui/users/bulk", {"action": "restore", "which": "all"})
    assert "1 user needs no change." in text_of(restore)


async def test_too_many_users_are_refused_in_words(
    admin: Browser, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "MAX_USERS", 1)
    project_id = await create_project(api)
    for _ in range(2):
        await create_user(api, project_id)
    page = await admin.post("/ui/users/bulk", {"action": "restore", "which": "all"})
    assert page.status_code == 422
    assert "matches more than 1 users: narrow it" in page.text


async def test_the_second_of_two_people_is_told_before_a_reason_is_replaced(
    api: httpx.AsyncClient, sign_in: SignIn
) -> None:
    user = await create_user(api, await create_project(api), labels={"tenant": "a"})
    ann, bob = await sign_in("Ann", Role.MANAGER), await sign_in("Bob", Role.MANAGER)
    address = "/ui/users/bulk?label=tenant:a"
    of_ann, of_bob = await ann.post(address, QUARANTINE), await bob.post(address, QUARANTINE)
    await ann.confirm(of_ann, reason="Ann was first")
    told = await bob.confirm(of_bob, reason="Bob's reason")
    assert told.status_code == 409
    assert "somebody else has quarantined some of them. Nothing was changed." in text_of(told)
    assert 'value="Bob&#39;s reason"' in told.text
    seen = (await api.get(f"/users/{user['id']}")).json()
    assert (seen["status_by"], seen["status_reason"]) == ("operator:Ann", "Ann was first")
    insisted = await bob.confirm(told, reason="Bob's reason")
    assert "1 user was quarantined already: the reason is replaced." in text_of(insisted)
    assert (await api.get(f"/users/{user['id']}")).json()["status_by"] == "operator:Bob"


async def test_the_second_of_two_people_is_told_when_nothing_is_left_to_change(
    api: httpx.AsyncClient, sign_in: SignIn
) -> None:
    project_id = await create_project(api)
    for _ in range(2):
        await create_user(api, project_id)
    ann, bob = await sign_in("Ann", Role.MANAGER), await sign_in("Bob", Role.MANAGER)
    asked = {"action": "delete", "which": "matching"}
    of_ann, of_bob = [await each.post("/ui/users/bulk?state=free", asked) for each in (ann, bob)]
    assert "2 done" in text_of(await ann.confirm(of_ann))
    told = text_of(await bob.confirm(of_bob))
    assert "0 done, 0 failed (of 0)." in told
    assert "2 matched when you looked, 0 do now: others have changed users meanwhile." in told


async def test_a_page_of_another_site_changes_nothing(api: httpx.AsyncClient, sign_in: SignIn) -> None:
    await create_user(api, await create_project(api))
    ann = await sign_in("Ann", Role.ADMIN)
    ann.client.headers["Sec-Fetch-Site"] = "cross-site"
    asked = {"action": "delete", "which": "all", "confirmed": "yes"}
    assert (await ann.post("/ui/users/bulk", asked)).status_code == 403
    assert (
        await ann.upload("login,password,env,domain,project\na@x.test,p,stage,regular,shop")
    ).status_code == 403
    assert await states(api) == ["free"]


async def test_the_address_of_a_change_leads_back_to_its_list(admin: Browser) -> None:
    answer = await admin.get("/ui/users/bulk?state=free")
    assert (answer.status_code, answer.headers["location"]) == (303, "/ui/users?state=free")


# The import

BAD_FILE = f"""login,password,env,domain,project
ann@shop.test,{SECRET},stage,regular,shop
not-an-address,{SECRET},stage,regular,shop
bob@shop.test,{SECRET},moon,{SECRET},shop
cat@shop.test,{SECRET},stage,regular,nowhere
dan@shop.test,{SECRET},stage
ANN@shop.test,{SECRET},stage,regular,shop
"eve@shop.test,{SECRET},stage,regular,shop
"""
WRONG = [
    "3 login This must be an e-mail address.",
    "4 env This must be prod, preprod or stage.",
    "4 domain This must be regular or canary.",
    "5 project There is no such project.",
    "6 the line The line has fewer columns than the first row names.",
    "7 login The project and env have a user of this login already, or an earlier line of the file has.",
    "8 the line A quote is opened and never closed, or text follows a closed one.",
]


@pytest.mark.parametrize("step", ["check", "import"])
async def test_all_that_is_wrong_is_named_by_its_line_and_nothing_is_created(
    admin: Browser, api: httpx.AsyncClient, step: str
) -> None:
    await create_project(api)
    page = await admin.upload(BAD_FILE, step=step)
    assert page.status_code == 422
    rows = page.text[page.text.index('<table id="errors">') :].partition("</tbody>")[0]
    found = [" ".join(re.sub(r"<[^>]*>", " ", row).split()) for row in rows.split("<tr>")[2:]]
    assert found == WRONG
    assert "users.csv: 6 lines are wrong. Nothing was created" in text_of(page)
    assert SECRET not in page.text
    assert await states(api) == []


async def test_a_check_creates_nothing_and_an_import_everybody(
    api: httpx.AsyncClient, sign_in: SignIn, farm: Farm
) -> None:
    await create_project(api)
    ann = await sign_in("Ann", Role.MANAGER)
    assert (await ann.get("/ui/users/import?project=shop&env=stage")).status_code == 200
    lines = "login,password,label.team\nann@shop.test,p,red\nbob@shop.test,p,\n"
    pool = {"project": "shop", "env": "stage", "domain": "canary"}
    check = await ann.upload(lines, step="check", **pool)
    assert "nothing is wrong. 2 users would be created; nothing was yet." in text_of(check)
    assert "<option selected>canary</option>" in check.text
    assert await states(api) == []
    done = await ann.upload(lines, step="import", **pool)
    assert (done.status_code, done.headers["location"]) == (303, "/ui/users/import?created=2")
    assert "2 users created." in text_of(await ann.get(done.headers["location"]))
    users = (await api.get("/users", params={"label": "team:red"})).json()["items"]
    assert [(user["login"], user["env"], user["domain"]) for user in users] == [
        ("ann@shop.test", "stage", "canary")
    ]
    by = await farm.sql.fetch("SELECT principal FROM audit WHERE action = 'import_users'")
    assert [row["principal"] for row in by] == ["operator:Ann"]
    again = await ann.upload(lines, step="import", **pool)
    assert "2 lines are wrong" in text_of(again)


async def test_json_lines_are_imported_too(admin: Browser, api: httpx.AsyncClient) -> None:
    project_id = await create_project(api)
    lines = [
        '{"login": "ann@shop.test", "password": "p", "env": "prod", "project": "shop", "secrets": {"pin": 7}}',
        f'{{"login": "bob@shop.test", "password": "p", "project_id": "{project_id}"}}',
    ]
    done = await admin.upload("\n".join(lines), "users.jsonl", env="stage", domain="regular")
    assert done.status_code == 303
    users = (await api.get("/users")).json()["items"]
    assert sorted((user["env"], user["has_secrets"]) for user in users) == [("prod", True), ("stage", False)]
    wrong = await admin.upload('{"login": "cat@shop.test"}\n{"password": "' + SECRET, "users.jsonl")
    assert "1 project This is missing." in text_of(wrong)
    assert "2 the line This is not a JSON object." in text_of(wrong)
    assert SECRET not in wrong.text


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        ("", "users.csv", "the first row must name the columns"),
        (f"a@shop.test,{SECRET},stage,regular\n", "users.csv", "login, password, env, domain not found"),
        ("login,password,env,domain\n", "users.csv", "there is no column project or project_id"),
        ("login,password,env,domain,colour\n", "users.csv", "column 5 is called 'colour'"),
        ('[{"login": 1}]', "users.txt", "one JSON array"),
    ],
)
async def test_a_file_that_is_none_of_users_is_told_so(
    admin: Browser, content: str, name: str, words: str
) -> None:
    page = await admin.upload(content, name)
    assert page.status_code == 422
    assert words in text_of(page)
    assert SECRET not in page.text


async def test_a_file_with_passwords_is_never_written_to_the_disk(
    admin: Browser, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rollover(_: object) -> None:
        raise AssertionError("the file goes to the disk")

    monkeypatch.setattr(SpooledTemporaryFile, "rollover", rollover)
    await create_project(api)
    seven_megabytes = "login,password,env,domain,project,secrets\n" + "".join(
        f'u{n}@shop.test,p,stage,regular,shop,"{{""a"": ""{"x" * 100_000}""}}"\n' for n in range(70)
    )
    assert (await admin.upload(seven_megabytes)).status_code == 303
    assert len(await states(api)) == 70


async def test_a_file_over_16_mib_is_refused(admin: Browser) -> None:
    page = await admin.upload(b"x" * 16_777_216)
    assert page.status_code == 413
    assert "The body is larger than this operation takes." in page.text


async def test_an_import_stays_within_the_scope_of_the_caller(api: httpx.AsyncClient) -> None:
    await create_project(api)
    await create_project(api, name="other")
    made = {"name": "m", "role": "manager", "projects": ["shop"], "envs": ["stage"]}
    token = (await api.post("/tokens", json=made)).json()["token"]
    limited = Browser(
        httpx.AsyncClient(transport=api._transport, headers={"Authorization": f"Bearer {token}"})
    )
    page = await limited.upload(
        "login,password,env,domain,project\na@shop.test,p,stage,regular,other\nb@shop.test,p,prod,regular,shop\n"
    )
    assert "2 project There is no such project." in text_of(page)
    assert "3 env Your scope does not have this env." in text_of(page)
    assert ">other<" not in page.text
    assert await states(api) == []
