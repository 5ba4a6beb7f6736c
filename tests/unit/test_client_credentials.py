"""Secrets and TOTP seeds in commands: how they are read, and where they are shown."""

import codecs
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from botfarm_client.commands.leases.views import without_passwords
from support.fake_farm import PROJECT_ID, FakeFarm, problem
from support.fake_lease import LEASE_ID, lease

USER_ID = "0068cbd8-e11a-4151-8c8c-659b33b2fa19"
OTHER_ID = "0068cbd8-e11a-4151-8c8c-659b33b2fa20"
SEED = "JBSWY3DPEHPK3PXP"
SECRETS = {"api_key": "kéy-123", "pin": 7}
ADD = ("users", "add", "a@x.test", "--project", PROJECT_ID, "--env", "stage", "--domain", "regular")
UPDATE = ("users", "update", USER_ID)
WRITE_BACK = ("leases", "write-back", LEASE_ID)
TOTP = ("leases", "totp", LEASE_ID)

USER: dict[str, Any] = {
    "id": USER_ID,
    "login": "a@x.test",
    "project_id": PROJECT_ID,
    "env": "stage",
    "domain": "regular",
    "state": "free",
    "available_at": "2026-11-23T15:00:00Z",
    "status": "active",
    "status_since": None,
    "status_reason": None,
    "health": "unknown",
    "health_reason": None,
    "checked_at": None,
    "failures": 0,
    "is_rotating": False,
    "labels": {},
    "created_at": "2026-11-23T15:00:00Z",
    "has_secrets": True,
    "has_totp": True,
}
PLAIN = {**USER, "login": "b@x.test", "has_secrets": False, "has_totp": False}
LEASED: dict[str, Any] = {
    "id": USER_ID,
    "login": "a@x.test",
    "labels": {},
    "password": "hunter2",
    "secrets": SECRETS,
    "totp": {"code": "012345", "expires_in": 17.2},
}
LEASED_PLAIN = {"id": OTHER_ID, "login": "b@x.test", "labels": {}, "password": "hunter3"}
LEASE: dict[str, Any] = {**lease(LEASED), "ended_by": None, "outcome": None}


def users_farm() -> FakeFarm:
    return FakeFarm(
        {
            "POST /users": USER,
            f"PATCH /users/{USER_ID}": USER,
            f"GET /users/{USER_ID}": USER,
            "GET /users": {"items": [USER, PLAIN], "next_cursor": None},
        }
    )


def lease_farm(*users: dict[str, Any], named: Sequence[dict[str, Any]] = (), **lease: object) -> FakeFarm:
    """`named`: the users that the farm finds by a login."""
    return FakeFarm(
        {
            "GET /users": {"items": list(named), "next_cursor": None},
            f"GET /leases/{LEASE_ID}": {**LEASE, "users": users, **lease},
            **{
                f"GET /leases/{LEASE_ID}/users/{user['id']}/totp": user.get("totp")
                or problem(404, "no-such-user")
                for user in users
            },
            **{f"PATCH /leases/{LEASE_ID}/users/{user['id']}": user for user in users},
        }
    )


@pytest.fixture
def secrets_file(tmp_path: Path) -> str:
    path = tmp_path / "secrets.json"
    path.write_text(json.dumps(SECRETS, ensure_ascii=False), encoding="utf-8")
    return str(path)


@pytest.fixture
def seed_file(tmp_path: Path) -> str:
    path = tmp_path / "seed"
    path.write_text(f"{SEED}\n")
    return str(path)


def test_a_user_comes_with_secrets_and_a_seed_from_files(secrets_file: str, seed_file: str) -> None:
    farm = users_farm()
    added = farm.run(*ADD, "--secrets", secrets_file, "--totp-file", seed_file, "--json", stdin="hunter2\n")
    assert added.json == USER
    body = farm.body_of("POST /users")
    assert (body["password"], body["secrets"], body["totp_seed"]) == ("hunter2", SECRETS, SEED)


def test_without_files_a_user_has_a_password_only() -> None:
    farm = users_farm()
    farm.run(*ADD, stdin="hunter2")
    assert {"secrets", "totp_seed"}.isdisjoint(farm.body_of("POST /users"))


def test_an_update_merges_removes_and_reads_standard_input(seed_file: str) -> None:
    def sent(*options: str, stdin: str = "") -> Any:
        farm = users_farm()
        farm.run(*UPDATE, *options, stdin=stdin)
        return farm.body_of(f"PATCH /users/{USER_ID}")

    assert sent("--secrets", "-", stdin='{"pin": null}') == {"secrets": {"pin": None}}
    assert sent("--totp-file", "-", stdin=f" {SEED}\r\n\n") == {"totp_seed": SEED}
    assert sent("--no-secrets", "--no-totp") == {"secrets": None, "totp_seed": None}
    both = sent("--totp-file", seed_file, "--password", stdin="hunter2")
    assert both == {"totp_seed": SEED, "password": "hunter2"}


@pytest.mark.parametrize(
    "arguments",
    [
        (*ADD, "--secrets", "-"),
        (*ADD, "--totp-file", "-"),
        (*UPDATE, "--password", "--secrets", "-"),
        (*UPDATE, "--secrets", "-", "--totp-file", "-"),
        (*WRITE_BACK, "--password", "--secrets", "-"),
    ],
)
def test_standard_input_is_never_for_two_things(arguments: tuple[str, ...]) -> None:
    farm = users_farm()
    refused = farm.run(*arguments, stdin=json.dumps(SECRETS), exit_code=2)
    assert "standard input is for one thing" in refused.err
    assert not farm.requests


@pytest.mark.parametrize(
    "options", [("--secrets", "FILE", "--no-secrets"), ("--totp-file", "FILE", "--no-totp")]
)
def test_setting_and_removing_one_credential_is_wrong_usage(options: tuple[str, ...]) -> None:
    assert "give either" in users_farm().run(*UPDATE, *options, exit_code=2).err


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hunter2",
        b'["hunter2"]',
        b'{"hunter2": NaN}',
        b'{"hunter2": "\\ud800"}',
        b'{"hunter2": "\xe9"}',
        b"[" * 100_000,
    ],
)
def test_secrets_that_are_no_json_object_are_one_line_without_them(content: bytes) -> None:
    farm = users_farm()
    refused = farm.run(*UPDATE, "--secrets", "-", stdin=content, exit_code=2)
    assert refused.err == "botfarm: what --secrets names is not a JSON object\n"
    assert not farm.requests


@pytest.mark.parametrize("content", [b"", b" \n", b"hunter2\nhunter3\n", b"hunter2\xe9"])
def test_a_seed_that_is_no_line_of_text_is_one_line_without_it(content: bytes) -> None:
    refused = users_farm().run(*UPDATE, "--totp-file", "-", stdin=content, exit_code=2)
    assert "one line with a seed" in refused.err
    assert "hunter" not in refused.err


@pytest.mark.parametrize(("option", "value"), [("--secrets", '{"a": "hunter2"}'), ("--totp-file", SEED)])
def test_a_secret_in_the_place_of_its_file_is_not_repeated(option: str, value: str) -> None:
    refused = users_farm().run(*UPDATE, option, value, exit_code=2)
    assert refused.err == f"botfarm: cannot read the file of {option}: No such file or directory\n"


def test_users_show_what_they_have_and_not_its_values() -> None:
    farm = users_farm()
    assert "has      password, secrets, totp" in farm.run("users", "show", USER_ID).out
    header, first, second = farm.run("users", "list").out.splitlines()
    assert "HAS" in header
    assert "secrets, totp" in first
    assert "totp" not in second


def test_a_list_without_secrets_has_no_column_for_them() -> None:
    farm = FakeFarm({"GET /users": {"items": [PLAIN], "next_cursor": None}})
    assert "HAS" not in farm.run("users", "list").out


def test_a_lease_shows_its_holder_the_secrets_and_the_code() -> None:
    farm = lease_farm(LEASED, LEASED_PLAIN)
    shown = farm.run("leases", "show", LEASE_ID).out
    for text in ("hunter2", "hunter3", "TOTP", "012345 (17s)", '"api_key": "kéy-123", "pin": 7}'):
        assert text in shown
    assert "secrets of a@x.test" in shown
    assert "secrets of b@x.test" not in shown
    assert farm.run("leases", "show", LEASE_ID, "--json").json["users"] == [LEASED, LEASED_PLAIN]


def test_an_acquire_shows_the_holder_the_secrets_and_the_code() -> None:
    farm = FakeFarm({"POST /leases": LEASE})
    shown = farm.run("leases", "acquire", "--project", "shop", "--env", "stage").out
    assert "012345 (17s)" in shown
    assert "secrets of a@x.test" in shown


def test_a_lease_of_somebody_else_has_no_columns_for_credentials() -> None:
    shown = lease_farm(without_passwords(LEASE)["users"][0]).run("leases", "show", LEASE_ID).out
    assert "PASSWORD" not in shown
    assert "TOTP" not in shown
    assert "secrets" not in shown


def test_where_passwords_are_not_shown_secrets_and_codes_are_not_either() -> None:
    farm = FakeFarm(
        {
            "GET /leases": {"items": [LEASE], "next_cursor": None},
            f"POST /leases/{LEASE_ID}/renew": LEASE,
            f"POST /leases/{LEASE_ID}/release": LEASE,
        }
    )
    for command in (("list",), ("renew", LEASE_ID), ("release", LEASE_ID)):
        for form in ((), ("--json",)):
            shown = farm.run("leases", *command, *form).out
            assert not [text for text in ("hunter2", "-123", "012345") if text in shown]


def test_a_code_is_alone_on_standard_output() -> None:
    assert lease_farm(LEASED).run(*TOTP).out == "012345\n"
    by_login = lease_farm(LEASED, LEASED_PLAIN, named=[USER])
    assert (
        by_login.run(*TOTP, "A@\uff58.test").out == "012345\n"
    )  # the farm knows that this is the same login
    by_id = lease_farm(LEASED, LEASED_PLAIN)
    assert by_id.run(*TOTP, USER_ID, "--json").json == LEASED["totp"]
    assert by_id.asked == [f"GET /leases/{LEASE_ID}/users/{USER_ID}/totp"]


@pytest.mark.parametrize(
    ("users", "arguments", "exit_code", "words"),
    [
        ((LEASED, LEASED_PLAIN), (), 2, "the lease has 2 users: name one"),
        ((LEASED,), ("c@x.test",), 4, "the lease has no such user"),
        ((LEASED_PLAIN,), (), 4, "It is so"),
        ((), (), 6, "the lease has ended"),
    ],
)
def test_an_ambiguous_or_missing_user_has_no_code(
    users: tuple[dict[str, Any], ...], arguments: tuple[str, ...], exit_code: int, words: str
) -> None:
    refused = lease_farm(*users).run(*TOTP, *arguments, exit_code=exit_code)
    assert words in refused.err
    assert not refused.out


def test_changed_credentials_are_written_back(secrets_file: str) -> None:
    farm = lease_farm(LEASED)
    written = farm.run(*WRITE_BACK, "--password", "--secrets", secrets_file, stdin="hunter9\n")
    assert written.out == "Wrote the password and the secrets of a@x.test back.\n"
    changes = farm.body_of(f"PATCH /leases/{LEASE_ID}/users/{USER_ID}")
    assert changes == {"password": "hunter9", "secrets": SECRETS}


def test_written_back_credentials_are_not_shown() -> None:
    written = lease_farm(LEASED, LEASED_PLAIN, named=[LEASED_PLAIN]).run(
        *WRITE_BACK, "b@x.test", "--secrets", "-", "--json", stdin='{"pin": null}'
    )
    assert written.json == {"id": OTHER_ID, "login": "b@x.test", "labels": {}}


def test_a_lapsed_lease_takes_nothing_back() -> None:
    lapsed: httpx.Response = problem(410, "lease-lapsed")
    farm = FakeFarm({f"PATCH /leases/{LEASE_ID}/users/{USER_ID}": lapsed})
    farm.run(*WRITE_BACK, USER_ID, "--password", stdin="hunter9", exit_code=6)


def test_write_back_without_a_change_is_wrong_usage() -> None:
    farm = lease_farm(LEASED)
    assert "say what to write back" in farm.run(*WRITE_BACK, exit_code=2).err
    assert not farm.requests


def test_a_token_at_its_quota_ends_the_command_as_busy() -> None:
    quota = problem(429, "quota-exceeded", held=4, max_leases=4)
    farm = FakeFarm({"POST /leases": quota})
    refused = farm.run("leases", "acquire", "--project", "shop", "--env", "stage", exit_code=5)
    assert refused.err == "botfarm: It is so (held 4; max_leases 4)\n"
    assert farm.asked == ["POST /leases"]


@pytest.mark.parametrize(
    ("piped", "password"),
    [
        (codecs.BOM_UTF8 + b"S3cret\r\n", "S3cret"),
        (codecs.BOM_UTF16_LE + "S3crét\r\n".encode("utf-16-le"), "S3crét"),
        (b" with blanks \n", " with blanks "),
    ],
    ids=["PowerShell 5", "UTF-16", "blanks"],
)
def test_a_piped_password_loses_marks_and_line_ends_and_keeps_blanks(piped: bytes, password: str) -> None:
    farm = FakeFarm({"POST /users": USER})
    added = farm.run(*ADD, stdin=piped)
    assert farm.body_of("POST /users")["password"] == password
    is_told = "the password begins or ends with a blank, which is part of it" in added.err
    assert is_told == (password != password.strip())
    assert password not in added.out + added.err
