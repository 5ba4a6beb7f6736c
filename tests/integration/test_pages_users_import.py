"""The import of a file of users on the page."""

import re
from tempfile import SpooledTemporaryFile

import httpx
import pytest

from botfarm.domain.access import Role
from support.farm import Farm
from support.http import create_project
from support.pages import Browser, SignIn, text_of

SECRET = "hunter2-canary"


async def states(api: httpx.AsyncClient) -> list[str]:
    return sorted(user["state"] for user in (await api.get("/users")).json()["items"])


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
    "3 login This must be an e-mail address or, where any login is allowed, printable text.",
    "4 env The project has no such env.",
    "4 domain The project has no such domain.",
    "5 project There is no such project.",
    "6 the line The line has fewer columns than the first row names.",
    "7 login Line 2 has the same account.",
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


async def test_a_file_of_a_password_manager_updates_users_that_are_there(
    admin: Browser, api: httpx.AsyncClient
) -> None:
    await create_project(api)
    pool = {"project": "shop", "env": "stage", "domain": "regular"}
    columns = {"login_column": "Username", "totp_seed_column": "OTPAuth"}
    seed = "otpauth://totp/Shop:ann?secret=JBSWY3DPEHPK3PXP"
    text = (
        f"Title,Username,Password,OTPAuth\nshop,ann@shop.test,{SECRET},{seed}\nshop,bob@shop.test,{SECRET},\n"
    )
    assert "login not found (columns of other names can be mapped)" in text_of(
        await admin.upload(text, **pool)
    )
    check = await admin.upload(text, step="check", **pool, **columns)
    assert "2 users would be created; nothing was yet." in text_of(check)
    assert "Columns that are passed over: Title." in text_of(check)
    assert 'name="login_column" value="Username"' in check.text
    assert (await admin.upload(text, **pool, **columns)).status_code == 303
    (ann,) = (await api.get("/users", params={"login": "ann@shop.test"})).json()["items"]
    assert ann["has_totp"]

    changed = text.replace(f"bob@shop.test,{SECRET}", "bob@shop.test,another").encode("utf-16")
    again = {**pool, **columns, "update": "true"}
    check = await admin.upload(changed, "users.txt", step="check", **again)
    assert "0 users would be created and 1 updated, 1 needs no change; nothing was yet." in text_of(check)
    done = await admin.upload(changed, "users.txt", **again)
    assert done.headers["location"] == "/ui/users/import?created=0&updated=1&unchanged=1"
    assert "0 users created and 1 updated, 1 needed no change." in text_of(
        await admin.get(done.headers["location"])
    )
    wrong = await admin.upload(changed, "users.txt", **{**again, "domain": "canary"})
    assert "2 domain The user is there in another domain" in text_of(wrong)
    assert "Nothing was changed: mend the file" in text_of(wrong)
    assert SECRET not in wrong.text + check.text


async def test_a_seed_that_the_farm_cannot_use_is_named_by_what_is_wrong_with_it(
    admin: Browser, api: httpx.AsyncClient
) -> None:
    await create_project(api)
    address = "otpauth://totp/Shop:ann?secret=JBSWY3DPEHPK3PXP"
    seeds = {
        "steam://JBSWY3DPEHPK3PXP": "base32 or an otpauth://totp/ address",
        "otpauth://hotp/x?secret=JBSWY3DPEHPK3PXP&counter=1": "base32 or an otpauth://totp/ address",
        f"{address}&algorithm=MD5": "algorithm",
        f"{address}&digits=5": "digits",
        f"{address}&period=600": "period",
        f"{address}&encoder=steam": "has a parameter that may change its codes",
        f"{address}&algorithm=SHA512&digits=8&period=60&issuer=Shop": "",
    }
    rows = [f"u{number}@shop.test,p,stage,regular,shop,{seed}" for number, seed in enumerate(seeds)]
    page = await admin.upload("\n".join(["login,password,env,domain,project,totp_seed", *rows]))
    for line, words in enumerate(seeds.values(), start=2):
        found = re.search(rf">{line}</th><td data-label=.field.>totp_seed</td><td>([^<]*)", page.text)
        assert bool(found) == bool(words)
        assert found is None or words in found[1]
    assert "JBSWY3DP" not in page.text


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
        (f"a@shop.test,{SECRET},stage,regular\n", "users.csv", "env and domain can be given for all lines"),
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
