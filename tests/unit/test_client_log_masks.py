"""Masks in the log of a GitHub Actions job: the secrets of a lease, in the forms that programs print."""

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from botfarm_client.masks.lease_secrets import other_secrets
from botfarm_client.masks.log_masks import mask_lines
from botfarm_client.testing import FakeFarm, FakeUser
from support.fake_farm import FakeFarm as CommandFarm
from support.fake_lease import ACQUIRE, LEASE_ID, farm, lease, user
from support.processes import BOTFARM, clean_environment

pytest_plugins = ["pytester"]

# A session as Playwright stores it. Only one cookie is secret.
SESSION = {
    "cookies": [
        {"name": "sid", "value": "f9e8d7c6b5a4", "domain": "eu-1.shop.test", "path": "/", "sameSite": "None"},
        {"name": "consent", "value": "true", "domain": ".shop.test", "expires": -1, "sameSite": "Strict"},
    ],
    "origins": [
        {
            "origin": "https://eu-1.shop.test",
            "localStorage": [
                {"name": "theme", "value": "dark"},
                {"name": "who", "value": "u1@x.test"},
                {"name": "lang", "value": "test"},
                {"name": "pin", "value": "true"},
            ],
        }
    ],
}
FACTS = {
    "role": "administrator",
    "country": "Germany",
    "street": "Unter den Linden",
    "limit": 2026,
    "since": "2026-11-28T09:00:00Z",
    "shop": "https://eu-1.shop.test:8443/",
    "friend": "bob.2@shop.test",
    "token_type": "Bearer",
    "team": "red-team-1",
}


def masked(log: str) -> list[str]:
    marks = (
        line.removeprefix("::add-mask::") for line in log.splitlines() if line.startswith("::add-mask::")
    )
    return [mark.replace("%0A", "\n").replace("%0D", "\r").replace("%25", "%") for mark in marks]


def as_shown(log: str, text: str) -> str:
    """The text as the runner shows it with these masks."""
    for mask in masked(log):
        text = text.replace(mask, "***")
    return text


@pytest.mark.parametrize(
    ("secrets", "expected"),
    [
        ({"storage_state": SESSION}, {"f9e8d7c6b5a4"}),
        (FACTS, set()),
        (
            {"pin": "4711", "adminPassword": "open", "backup_codes": ["ab12", 3456]},
            {"4711", "open", "ab12", "3456"},
        ),
        ({"recovery phrase": "blue elephant"}, {"blue elephant"}),
        (
            {
                "cookies": [
                    {
                        "name": "session",
                        "value": "kqzvxwplmnt",
                        "domain": "shop.test",
                        "path": "/",
                        "session": True,
                    },
                    {"name": "JSESSIONID", "value": "kqzvxwplmno", "domain": "shop.test", "path": "/"},
                    {"name": "connect.sid", "value": "kqzvxwplmnp", "domain": "shop.test", "path": "/"},
                    {"name": "cookie_consent", "value": "necessary", "domain": "shop.test", "path": "/"},
                ],
            },
            {"kqzvxwplmnt", "kqzvxwplmno", "kqzvxwplmnp"},
        ),
        ({"session": "deadbeefcafe", "csrftoken": "abcdefgh"}, {"deadbeefcafe", "abcdefgh"}),
        ({"recovery": "correct-horse-battery-staple"}, {"correct-horse-battery-staple"}),
        ({"door": "4711", "on": True, "nothing": None}, set()),
        ({"card": 4111111111111111}, {"4111111111111111"}),
        ({"link": "https://shop.test/r/8f3a"}, {"https://shop.test/r/8f3a"}),
        (
            {"persist": '{"jwt":"eyJ0.e30.x1","lang":"test"}'},
            {'{"jwt":"eyJ0.e30.x1","lang":"test"}', "eyJ0.e30.x1"},
        ),
        ({"name": "u1", "value": "test", "password": "open"}, {"open"}),
        ({"deep": "[" * 100_000}, {"[" * 100_000}),
    ],
    ids=[
        "session",
        "facts",
        "named",
        "phrase",
        "cookies",
        "letters",
        "recovery",
        "short",
        "number",
        "link",
        "json-inside",
        "pair",
        "deep",
    ],
)
def test_a_text_is_secret_by_its_name_or_if_it_is_long_and_no_words(
    secrets: dict[str, Any], expected: set[str]
) -> None:
    assert other_secrets([user(1, labels={"team": "red-team-1"}, secrets=secrets)]) == expected


def test_a_seed_of_codes_is_masked_with_its_address_and_alone() -> None:
    address = "otpauth://totp/shop:u1?secret=JBSWY3DPEHPK3PXP&issuer=shop"
    assert other_secrets([user(1, secrets={"mfa": address})]) == {address, "JBSWY3DPEHPK3PXP"}


def test_a_login_stays_readable_whatever_the_secrets_and_the_password_are() -> None:
    secrets = {"token": "u1@x", "account_secret": "u1@x.test", "team_secret": "red"}
    lines = "\n".join(mask_lines([user(1, password="u1@x.test", secrets=secrets)]))
    assert as_shown(lines, "u1@x.test of team red") == "u1@x.test of team red"


@pytest.mark.parametrize("password", ["a", "123", "true", "None"])
def test_a_password_that_a_log_is_full_of_hides_nothing(password: str) -> None:
    assert not mask_lines([user(1, password=password)])


def test_a_password_of_four_characters_is_hidden() -> None:
    assert "::add-mask::1234" in mask_lines([user(1, password="1234")])


PASSWORD = 'it\'s "50 %" a\\b+€'


@pytest.mark.parametrize(
    "shown",
    [
        PASSWORD,
        json.dumps({"password": PASSWORD}),
        json.dumps({"password": PASSWORD}, ensure_ascii=False),
        quote(PASSWORD, safe=""),
        quote(PASSWORD),
        quote_plus(PASSWORD),
        base64.b64encode(PASSWORD.encode()).decode(),
        f"Authorization: Basic {base64.b64encode(f'u1@x.test:{PASSWORD}'.encode()).decode()}",
    ],
)
def test_a_password_is_hidden_as_programs_write_it(shown: str) -> None:
    lines = "\n".join(mask_lines([user(1, password=PASSWORD)]))
    assert shown.replace("=", "") not in as_shown(lines, shown)
    assert "***" in as_shown(lines, shown)


def test_the_pending_password_of_a_rotation_is_masked_too() -> None:
    lines = mask_lines([user(1, password=PASSWORD, pending_password="a-new-pw")])
    assert {"::add-mask::a-new-pw", f"::add-mask::{base64.b64encode(b'u1@x.test:a-new-pw').decode()}"} <= set(
        lines
    )


def test_a_long_secret_is_masked_in_lines_that_a_pipe_takes_whole() -> None:
    token = "%€" * 5_000
    lines = mask_lines([user(1, secrets={"token": token})])
    assert max(len(line.encode()) + 1 for line in lines) <= 4_096
    assert as_shown("\n".join(lines), f"token {token}.").replace("***", "") == "token ."


@pytest.fixture
def on_github(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")


@pytest.mark.usefixtures("on_github")
@pytest.mark.parametrize("form", ["json", "env", "dotenv"])
def test_a_format_for_programs_masks_in_a_job_beside_its_output(form: str) -> None:
    shown = farm(user(1)).run(*ACQUIRE, "--format", form)
    assert "hunter2" in masked(shown.err)
    assert "::add-mask::" not in shown.out


@pytest.mark.usefixtures("on_github")
@pytest.mark.parametrize("command", [ACQUIRE, ("leases", "show", LEASE_ID)], ids=["acquire", "show"])
def test_what_a_person_reads_begins_with_its_masks(command: tuple[str, ...]) -> None:
    answers = {"POST /leases": lease(user(1)), f"GET /leases/{LEASE_ID}": lease(user(1))}
    shown = CommandFarm(answers).run(*command)
    before, _, after = shown.out.rpartition("::add-mask::")
    assert "hunter2" in masked(shown.out)
    assert all(line.startswith("::add-mask::") for line in before.splitlines())
    assert "hunter2" in after.partition("\n")[2]


@pytest.mark.usefixtures("on_github")
def test_the_holder_who_looks_again_or_writes_back_masks_too() -> None:
    held = user(1)
    answers = {
        f"GET /leases/{LEASE_ID}": lease(held),
        f"PATCH /leases/{LEASE_ID}/users/{held['id']}": user(1),
    }
    shown = CommandFarm(answers).run("leases", "show", LEASE_ID, "--json")
    assert "hunter2" in masked(shown.err)
    written = CommandFarm(answers).run(
        "leases", "write-back", LEASE_ID, held["id"], "--password", stdin="new-pw"
    )
    assert "new-pw" in masked(written.err)
    assert "::add-mask::" not in shown.out + written.out


@pytest.mark.usefixtures("on_github")
def test_a_script_that_changes_a_password_masks_it_before_it_has_it() -> None:
    user_id = user(1)["id"]
    path = f"POST /leases/{LEASE_ID}/users/{user_id}/rotation"
    answers = {path: {"pending_password": "made-up-pw"}, f"{path}/confirm": user(1, password="made-up-pw")}
    whom = ("--lease", LEASE_ID, "--user", user_id)
    rotated = CommandFarm(answers).run("chores", "rotate", *whom)
    assert rotated.out == "made-up-pw\n"
    assert "made-up-pw" in masked(rotated.err)
    confirmed = CommandFarm(answers).run("chores", "confirm", *whom, "--json")
    assert "made-up-pw" in masked(confirmed.err)
    assert "made-up-pw" not in confirmed.out


def test_outside_of_a_job_nothing_is_added() -> None:
    assert not farm(user(1)).run(*ACQUIRE, "--format", "env").err


@pytest.mark.parametrize("where", ["true", ""])
def test_exec_masks_before_its_command_begins(where: str) -> None:
    with FakeFarm([FakeUser("a@x.test", "pw-a", secrets={"storage_state": SESSION})]) as fake:
        finished = subprocess.run(
            [BOTFARM, "exec", "--", "sh", "-c", "echo out; echo begins >&2"],
            env=clean_environment({**fake.environment, "GITHUB_ACTIONS": where}),
            capture_output=True,
            text=True,
            check=True,
        )
    assert finished.stdout == "out\n"
    masks, _, after = finished.stderr.partition("begins")
    assert masked(after) == []
    assert {"pw-a", "f9e8d7c6b5a4"} & set(masked(masks)) == ({"pw-a", "f9e8d7c6b5a4"} if where else set())


@pytest.mark.usefixtures("on_github")
@pytest.mark.parametrize(
    "options",
    [(), ("-s",), ("-p", "no:capture"), ("-p", "xdist", "-n", "2")],
    ids=["captured", "s", "none", "xdist"],
)
def test_the_pytest_plugin_masks_on_the_runs_own_standard_error(
    options: tuple[str, ...], pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile("""
        import sys

        def test_one(botfarm_user, botfarm_worker_user):
            print("captured", file=sys.stderr)

        def test_two(botfarm_lease, request):
            if not request.config.pluginmanager.hasplugin("capturemanager"):
                return
            capfd = request.getfixturevalue("capfd")
            assert botfarm_lease().user.password
            print("captured", file=sys.stderr)
            assert capfd.readouterr().err == "captured\\n"

        def test_three(botfarm_lease):
            botfarm_lease().write_back(password="a-new-pw")
    """)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    users = [FakeUser(f"{name}@x.test", f"pw-{name}") for name in "abcd"]
    with FakeFarm(users) as fake:
        for name, value in fake.environment.items():
            monkeypatch.setenv(name, value)
        result = pytester.runpytest_subprocess("-p", "botfarm_client.pytest_plugin", *options)
        taken = {user.login for lease in fake.leases for user in lease.users}
    result.assert_outcomes(passed=3)
    assert "a-new-pw" in masked(result.stderr.str())
    assert {f"pw-{login[0]}" for login in taken} <= set(masked(result.stderr.str()))
    assert "::add-mask::" not in result.stdout.str()
    if "xdist" not in options:
        said = masked(result.stderr.str())
        assert len(set(said)) == len(said), "each is said once"


def test_a_mask_begins_a_line_where_standard_output_shares_the_pipe(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_one(botfarm_user): pass\n")
    with FakeFarm([FakeUser("a@x.test", "pässword")]) as fake:
        log = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-v",
                "-p",
                "botfarm_client.pytest_plugin",
                "-p",
                "no:cacheprovider",
            ],
            cwd=tmp_path,
            env=clean_environment(
                {
                    **fake.environment,
                    "GITHUB_ACTIONS": "true",
                    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                    "PYTHONIOENCODING": "ascii:backslashreplace",
                }
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=True,
        ).stdout.decode()
    assert "pässword" in masked(log)
    assert log.count("::add-mask::") == len(masked(log))
