"""The command line as people and scripts use it: subprocesses against a real `botfarm serve`."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import httpx
import pytest

from botfarm.crypto.key_ring import generate_key
from support.farm import PASSWORD, TOKEN
from support.postgres import fresh_database, two_roles
from support.processes import BOTFARM, clean_environment, run_botfarm, running_botfarm

Result = TypeVar("Result")
NOBODY = "00000000-0000-4000-8000-000000000000"


@dataclass(frozen=True)
class Finished:
    exit_code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class CommandLine:
    environment: dict[str, str]

    def __call__(self, *arguments: str, stdin: str = "", exit_code: int = 0) -> Finished:
        finished = run_botfarm(*arguments, environment=self.environment, stdin=stdin)
        assert finished.returncode == exit_code, finished.stdout + finished.stderr
        assert "Traceback" not in finished.stderr
        return Finished(finished.returncode, finished.stdout, finished.stderr)

    def error(self, *arguments: str, exit_code: int, stdin: str = "") -> str:
        """The line on standard error with which the command ended. Standard output is empty."""
        finished = self(*arguments, exit_code=exit_code, stdin=stdin)
        assert not finished.out
        (line,) = finished.err.splitlines()
        assert line.startswith("botfarm: ")
        return line

    def on_terminal(self, *arguments: str, answers: dict[str, str]) -> Finished:
        """Runs the command on a terminal of its own. Each answer is typed after its question was read."""
        ours, its = pty.openpty()
        # The first terminal that a session without one opens is its own: Ctrl-C reaches it.
        process = subprocess.Popen(
            ["/bin/sh", "-c", 'exec "$0" "$@" <"$TTY" >"$TTY" 2>&1', BOTFARM, *arguments],
            env=clean_environment({**self.environment, "TERM": "xterm", "TTY": os.ttyname(its)}),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            # Tests that run in the background of a shell ignore SIGINT, and so would their children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )
        shown, left = "", dict(answers)
        try:
            while chunk := _read(ours, process):
                shown += chunk
                for question in [question for question in left if question in shown]:
                    os.write(ours, left.pop(question).encode())
            return Finished(process.wait(30), shown, "")
        finally:
            process.kill()
            os.close(its)
            os.close(ours)


def _read(terminal: int, process: "subprocess.Popen[bytes]") -> str:
    """The next output; empty after the command has ended and all is read."""
    while True:
        has_ended = process.poll() is not None
        if select.select([terminal], [], [], 0.02)[0]:
            return os.read(terminal, 65_536).decode(errors="replace")
        if has_ended:
            return ""


@pytest.fixture(scope="module")
def botfarm(postgres_url: str, template: str) -> Iterator[CommandLine]:
    with fresh_database(postgres_url, template=template) as database_url:
        server = {
            **two_roles(database_url),
            "BOTFARM_ENCRYPTION_KEYS": generate_key("test"),
            "BOTFARM_BOOTSTRAP_TOKEN": TOKEN,
            "BOTFARM_PORT": "0",
            "BOTFARM_MAX_WAIT": "1",
        }
        with running_botfarm("serve", environment=server) as api:
            url = api.url()
            yield CommandLine({"BOTFARM_URL": url, "BOTFARM_TOKEN": TOKEN})


@pytest.fixture
def api(botfarm: CommandLine) -> Iterator[httpx.Client]:
    """Runs a command in this process, for the preparation of a test: faster than a subprocess."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=f"{botfarm.environment['BOTFARM_URL']}/api/v1", headers=headers) as client:
        yield client


@pytest.fixture
def project(api: httpx.Client) -> str:
    name = f"shop-{uuid4().hex[:8]}"
    api.post("/projects", json={"name": name, "lock_delay": 0}).raise_for_status()
    return name


@pytest.fixture
def login(api: httpx.Client, project: str) -> str:
    """The login of a user of the project in stage. No other project has it."""
    project_id = {each["name"]: each["id"] for each in api.get("/projects").json()["items"]}[project]
    user = {"login": f"{project}@x.test", "password": PASSWORD, "project_id": project_id}
    api.post("/users", json={**user, "env": "stage", "domain": "regular"}).raise_for_status()
    return user["login"]


def acquired(botfarm: CommandLine, project: str, *options: str) -> Any:
    return botfarm("leases", "acquire", "--project", project, "--env", "stage", "--json", *options).json


def side_by_side(*calls: Callable[[], Result]) -> list[Result]:
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda call: call(), calls))


def test_the_life_of_a_user_and_its_lease(botfarm: CommandLine, project: str) -> None:
    login, where = "Alice@x.test", ("--project", project)
    added = botfarm(
        "users", "add", login, *where, "--env", "prod", "--label", "team=red", "--json", stdin=PASSWORD
    ).json
    assert (added["login"], added["state"], added["labels"]) == (login, "free", {"team": "red"})
    changes = ("--env", "stage", "--label", "team=", "--label", "role=admin")
    updated = botfarm("users", "update", added["id"], *changes, "--json").json
    assert (updated["env"], updated["labels"]) == ("stage", {"role": "admin"})
    botfarm("users", "update", added["id"], "--password", stdin="a new password\n")
    out = botfarm("users", "quarantine", added["id"], "--reason", "captcha", "--for", "8h", "--json").json
    assert (out["state"], out["status_reason"], out["status_until"] is None) == (
        "quarantined",
        "captcha",
        False,
    )
    assert botfarm("users", "restore", added["id"], "--note", "solved", "--json").json["state"] == "free"

    lease = acquired(botfarm, project, "--ttl", "5m", "--owner", "me", "--metadata", "job=7")
    (user,) = lease["users"]
    assert (user["login"], user["password"], lease["ttl_seconds"]) == (login, "a new password", 300)
    renewed = botfarm("leases", "renew", lease["id"], "--ttl", "10m", "--json").json
    assert renewed["ttl_seconds"] == 600
    listed = botfarm("leases", "list", *where, "--state", "active", "--json").json
    assert [each["id"] for each in listed["items"]] == [lease["id"]]
    assert "leased" in botfarm("users", "list", *where).out

    released = botfarm("leases", "release", lease["id"], "--outcome", "dirty", "--note", "cart full").out
    assert botfarm("leases", "release", lease["id"]).out == released == f"Released {login}.\n"
    last = botfarm("users", "show", added["id"], "--json").json["last_lease"]
    assert (last["id"], last["owner"], last["outcome"]) == (lease["id"], "me", "dirty")
    botfarm("users", "delete", added["id"], "--yes")
    botfarm("projects", "delete", project, "--yes")


def test_only_acquire_and_show_print_passwords(botfarm: CommandLine, project: str, login: str) -> None:
    taken = botfarm("leases", "acquire", "--project", project, "--env", "stage")
    assert PASSWORD in taken.out
    lease_id = botfarm("leases", "list", "--project", project, "--json").json["items"][0]["id"]
    assert PASSWORD in botfarm("leases", "show", lease_id).out
    silent = (
        ("users", "show", login),
        ("leases", "list", "--project", project),
        ("leases", "renew", lease_id),
    )
    calls = [partial(botfarm, *arguments, *form) for arguments in silent for form in ((), ("--json",))]
    for finished in side_by_side(*calls):
        assert PASSWORD not in finished.out + finished.err


def test_a_password_is_never_an_argument(botfarm: CommandLine, project: str) -> None:
    where = ("--project", project, "--env", "stage")
    for stdin in ("\n", "two\nlines\n"):
        assert "password" in botfarm.error("users", "add", "a@x.test", *where, exit_code=2, stdin=stdin)


def test_a_project_goes_by_its_name_and_by_its_id(botfarm: CommandLine, project: str, login: str) -> None:
    shown = botfarm("projects", "show", project, "--json").json
    assert shown["lock_delay"] == 0
    assert botfarm("projects", "show", shown["id"], "--json").json == shown
    by_id = botfarm("users", "list", "--project", shown["id"], "--json").json
    assert [user["login"] for user in by_id["items"]] == [login]
    assert acquired(botfarm, shown["id"])["project_id"] == shown["id"]
    renamed = botfarm("projects", "update", project, "--name", f"{project}-2", "--cooldown", "2m", "--json")
    assert (renamed.json["name"], renamed.json["cooldown"]) == (f"{project}-2", 120)
    assert "2m" in botfarm("projects", "list").out
    pools = {pool["project"]: pool for pool in botfarm("pools", "--json").json["items"]}
    assert pools[f"{project}-2"]["leased"] == 1
    assert f"{project}-2" in botfarm("pools").out


def test_a_project_of_any_logins_has_phone_numbers_and_each_once(
    botfarm: CommandLine, tmp_path: Path
) -> None:
    desk = f"desk-{uuid4().hex[:8]}"
    where = ("--project", desk, "--env", "stage")
    assert botfarm("projects", "add", desk, "--json").json["logins"] == "email"
    for login in ("+49 170 1234567", "SHOP\\Anna"):
        assert "login: " in botfarm.error("users", "add", login, *where, exit_code=1, stdin=PASSWORD)
        botfarm("projects", "update", desk, "--logins", "any")
        botfarm("users", "add", login, *where, stdin=PASSWORD)
        botfarm("projects", "update", desk, "--logins", "email")
    assert "email" in botfarm("projects", "show", desk).out
    assert botfarm("users", "show", "shop\\anna", "--json").json["login"] == "SHOP\\Anna"
    found = botfarm("users", "list", "--project", desk, "--search", "+49 170", "--json").json["items"]
    assert [user["login"] for user in found] == ["+49 170 1234567"]

    spellings = ("jürgen@x.test", "ju\u0308rgen@x.test", "a@bücher.test", "a@xn--bcher-kva.test")
    users = [{"login": each, "password": "p", "env": "stage", "domain": "regular"} for each in spellings]
    path = tmp_path / "users.jsonl"
    path.write_text("".join(f"{json.dumps(user)}\n" for user in users))
    refused = botfarm("users", "import", str(path), "--project", desk, exit_code=3)
    assert refused.err.splitlines()[:-1] == [
        "line 2: login: duplicate of line 1",
        "line 4: login: duplicate of line 3",
    ]


BAD_CSV = """\
login,password,env,domain,project,label.team
a@x.test,"first
second",stage,regular,PROJECT,red
nonsense,hunter2,stage,regular,PROJECT,
b@x.test,hunter2,stage,regular,nowhere,
c@x.test,"hunter2,stage,regular,PROJECT,
d@x.test,hunter2,moon,regular,PROJECT,
A@x.test,hunter2,stage,regular,PROJECT,
e@x.test,hunter2
f@x.test,hunter2,stage,canary,PROJECT,
"""
BAD_LINES = [
    {"line": 4, "field": "login", "code": "invalid"},
    {"line": 5, "field": "project", "code": "no-such-project"},
    {"line": 6, "field": "", "code": "broken-quotes"},
    {"line": 7, "field": "env", "code": "unknown"},
    {"line": 8, "field": "login", "code": "duplicate", "earlier_line": 2},
    {"line": 9, "field": "", "code": "too-few-columns"},
]


def test_an_import_names_every_bad_line_of_the_file_and_never_a_value(
    botfarm: CommandLine, project: str, tmp_path: Path
) -> None:
    path = tmp_path / "users.csv"
    path.write_text(BAD_CSV.replace("PROJECT", project))
    refused = botfarm("users", "import", str(path), exit_code=3)
    lines = [
        f"line {bad['line']}: {bad['field'] and str(bad['field']) + ': '}{bad['code']}"
        + (f" of line {bad['earlier_line']}" if "earlier_line" in bad else "")
        for bad in BAD_LINES
    ]
    assert refused.err.splitlines()[:-1] == lines
    assert "nothing was created" in refused.err.splitlines()[-1]
    assert "Created 0 users" in refused.out
    assert "hunter2" not in refused.out + refused.err
    assert botfarm("users", "list", "--project", project, "--json").json == {"items": []}

    skipped = botfarm("users", "import", str(path), "--on-error", "skip", "--json", exit_code=3)
    counts = {"created": 2, "updated": 0, "unchanged": 0, "skipped": 6}
    assert skipped.json == {**counts, "errors": BAD_LINES, "passed_over": []}
    lease = acquired(botfarm, project)
    assert lease["users"][0]["password"] == "first\nsecond"
    assert lease["users"][0]["labels"] == {"team": "red"}


def test_the_export_of_a_password_manager_goes_in_twice_and_out_again(
    botfarm: CommandLine, project: str, tmp_path: Path
) -> None:
    path, out = tmp_path / "bitwarden.csv", tmp_path / "users.csv"
    header = "folder,name,notes,login_uri,login_username,login_password,login_totp\n"
    seed = "otpauth://totp/Shop:me?secret=JBSWY3DPEHPK3PXP"
    path.write_text(header + f"e2e,shop,,https://shop.test,me@x.test,old,{seed}\n,note,hunter2,,,,\n")
    mapped = [("login", "login_username"), ("password", "login_password"), ("totp_seed", "login_totp")]
    columns = [part for field, name in mapped for part in ("--column", f"{field}={name}")]
    where = ("--project", project, "--env", "stage", "--domain", "regular", *columns)
    first = botfarm("users", "import", str(path), *where, "--on-error", "skip", exit_code=3)
    assert first.out == "Created 1 user, skipped 1 line.\n"
    assert "botfarm: passed over: folder, name, notes, login_uri\n" in first.err
    assert "hunter2" not in first.out + first.err

    path.write_text(header + f"e2e,shop,,https://shop.test,me@x.test,new,{seed}\n")
    for counts in ("updated 1, found 0", "updated 0, found 1"):
        again = botfarm("users", "import", str(path), *where, "--on-error", "update")
        assert again.out == f"Created 0 users, {counts} as they should be.\n"

    exported = ("users", "export", "--project", project)
    assert botfarm(*exported).out == f"login,env,domain,project,labels\nme@x.test,stage,regular,{project},\n"
    assert "name a file" in botfarm(*exported, "--with-credentials", exit_code=2).err
    botfarm("users", "export", str(out), "--project", project, "--with-credentials")
    assert out.stat().st_mode & 0o777 == 0o600
    botfarm("users", "delete", "me@x.test", "--yes")
    assert botfarm("users", "import", str(out)).out == "Created 1 user, skipped 0 lines.\n"
    assert acquired(botfarm, project)["users"][0]["password"] == "new"


def test_many_users_come_in_by_a_pipe_and_go_out_over_pages(botfarm: CommandLine, project: str) -> None:
    users = [
        {"login": f"u{number}@x.test", "password": "p", "env": "stage", "domain": "regular"}
        for number in range(1_100)
    ]
    lines = "".join(f"{json.dumps(user)}\n" for user in users)
    piped = botfarm("users", "import", "-", "--project", project, stdin=lines)
    assert piped.out == "Created 1100 users, skipped 0 lines.\n"
    where = ("--project", project)
    everything = botfarm("users", "list", *where, "--all", "--json")
    assert len({user["id"] for user in everything.json["items"]}) == 1_100
    assert not everything.err
    some = botfarm("users", "list", *where, "--limit", "5", "--json")
    assert some.json["items"] == everything.json["items"][:5]
    assert "--all" in some.err
    assert len(botfarm("users", "list", *where).out.splitlines()) == 1 + 100


def test_the_same_key_gets_the_same_lease(botfarm: CommandLine, project: str, login: str) -> None:
    key = ("--idempotency-key", uuid4().hex)
    first, second = acquired(botfarm, project, *key), acquired(botfarm, project, *key)
    assert first["id"] == second["id"]
    assert first["users"][0]["login"] == login


def test_a_wait_may_be_longer_than_the_farm_keeps_a_request_open(
    botfarm: CommandLine, project: str, login: str
) -> None:
    first = acquired(botfarm, project, "--ttl", "2s")
    second = acquired(botfarm, project, "--wait", "30s")
    assert second["users"][0]["login"] == login
    assert second["fence"] > first["fence"]


def test_exit_codes_tell_scripts_what_happened_and_one_line_tells_people(
    botfarm: CommandLine, project: str, login: str
) -> None:
    lease = acquired(botfarm, project)
    acquire = ("leases", "acquire", "--project", project, "--env")
    expected: list[tuple[int, str, tuple[str, ...]]] = [
        (1, "ttl_seconds: ", (*acquire, "stage", "--ttl", "2d")),
        (2, "--yes", ("users", "delete", login)),
        (2, "No such file", ("users", "import", "/no/such/file")),
        (4, "no such user", ("users", "show", NOBODY)),
        (4, "botfarm users list", ("users", "show", "nobody@x.test")),
        (4, "botfarm projects list", ("projects", "show", "nowhere")),
        (4, "check the spelling", (*acquire, "prod")),
        (5, "already", ("projects", "add", project)),
        (5, "delete or move them first", ("projects", "delete", project, "--yes")),
        (5, "expires_in", ("users", "delete", login, "--yes")),
        (5, "next_free_in", (*acquire, "stage")),
    ]
    calls = [partial(botfarm.error, *arguments, exit_code=exit_code) for exit_code, _, arguments in expected]
    for line, (_, words, _) in zip(side_by_side(*calls), expected, strict=True):
        assert words in line
    botfarm("leases", "force-release", lease["id"], "--reason", "to see")
    botfarm.error("leases", "renew", lease["id"], exit_code=6)


def test_a_farm_that_cannot_be_asked_is_one_line_with_the_way_out(
    botfarm: CommandLine, tmp_path: Path
) -> None:
    nowhere = CommandLine({**botfarm.environment, "BOTFARM_URL": "http://127.0.0.1:1"})
    acquire = ("leases", "acquire", "--project", "shop", "--env", "stage", "--wait", "1h")
    line, waiting_line = side_by_side(
        partial(nowhere.error, "pools", exit_code=7), partial(nowhere.error, *acquire, exit_code=7)
    )
    assert line == ("botfarm: cannot reach the farm at http://127.0.0.1:1: is it running? set BOTFARM_URL")
    assert waiting_line == line, "who was never reached is not waited for"
    wrong = CommandLine({**botfarm.environment, "BOTFARM_TOKEN": "another"})
    assert "set BOTFARM_TOKEN" in wrong.error("pools", exit_code=1)
    nobody = CommandLine({"BOTFARM_URL": botfarm.environment["BOTFARM_URL"]})
    assert "set BOTFARM_TOKEN" in nobody.error("pools", exit_code=1)
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")
    by_file = CommandLine({**nobody.environment, "BOTFARM_TOKEN_FILE": str(token)})
    assert by_file("pools", "--json").json["items"] is not None


def test_a_person_is_asked_at_the_terminal(botfarm: CommandLine, project: str) -> None:
    add = ("users", "add", f"{project}@y.test", "--project", project, "--env", "stage")
    differ = botfarm.on_terminal(*add, answers={"Password:": f"{PASSWORD}\n", "Once more:": "another\n"})
    assert differ.exit_code == 2
    added = botfarm.on_terminal(*add, answers={"Password:": f"{PASSWORD}\n", "Once more:": f"{PASSWORD}\n"})
    assert added.exit_code == 0
    assert PASSWORD not in added.out
    delete = ("users", "delete", f"{project}@y.test")
    assert botfarm.on_terminal(*delete, answers={"[y/N]": "\n"}).exit_code == 1
    assert botfarm.on_terminal(*delete, answers={"[y/N]": "\x03"}).exit_code == 130
    assert "Deleted" in botfarm.on_terminal(*delete, answers={"[y/N]": "y\n"}).out


def test_a_person_sees_the_wait_at_the_terminal_and_can_give_up(
    botfarm: CommandLine, project: str, login: str, tmp_path: Path
) -> None:
    assert acquired(botfarm, project)["users"][0]["login"] == login
    wait = ("leases", "acquire", "--project", project, "--env", "stage", "--wait", "10m")
    given_up = botfarm.on_terminal(*wait, answers={"Waiting, 10m at most": "\x03"})
    assert given_up.exit_code == 130
    assert "Traceback" not in given_up.out
    path = tmp_path / "users.csv"
    path.write_text(f"login,password,env,domain,project\na@x.test,p,stage,regular,{project}\n")
    imported = botfarm.on_terminal("users", "import", str(path), answers={})
    assert imported.exit_code == 0
    assert "Importing" in imported.out
    assert "Created 1 user," in imported.out


def test_a_shell_completes_commands() -> None:
    asked = {"_BOTFARM_COMPLETE": "complete_bash", "COMP_WORDS": "botfarm leases re", "COMP_CWORD": "2"}
    assert CommandLine(asked)().out.split() == ["renew", "release"]


def test_commands_over_http_do_not_load_the_server(botfarm: CommandLine) -> None:
    script = """
import sys
from botfarm_client.cli import main
try:
    main()
finally:
    loaded = {name.partition(".")[0] for name in sys.modules}
    print(*loaded & {"botfarm", "workers", "fastapi", "sqlalchemy", "asyncpg"}, file=sys.stderr)
"""
    finished = subprocess.run(
        [sys.executable, "-c", script, "pools", "--json"],
        env=clean_environment(botfarm.environment),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(finished.stdout)["items"] is not None
    assert not finished.stderr.strip()


def test_a_project_has_envs_and_domains_of_its_own(botfarm: CommandLine) -> None:
    name = f"own-{uuid4().hex[:8]}"
    names = ("--env", "qa1", "--env", "uat", "--domain", "buyer", "--domain", "seller")
    shown = botfarm("projects", "add", name, *names).out
    assert "qa1, uat" in shown
    assert "buyer, seller" in shown
    where = ("--project", name, "--env", "qa1")
    added = botfarm("users", "add", "a@x.test", *where, "--json", stdin="hunter2\n").json
    assert added["domain"] == "buyer"
    lease = botfarm("leases", "acquire", *where, "--json").json
    assert (lease["env"], lease["domain"]) == ("qa1", "buyer")
    unknown = ("users", "add", "b@x.test", "--project", name, "--env", "stage")
    assert "qa1, uat" in botfarm.error(*unknown, exit_code=1, stdin="hunter2\n")
    assert "env qa1" in botfarm.error("projects", "update", name, "--env", "uat", exit_code=5)
    assert "a-z, 0-9, dot, dash" in botfarm.error("projects", "update", name, "--env", "QA1", exit_code=1)
    changed = botfarm("projects", "update", name, "--env", "qa1", "--env", "qa2", "--json").json
    assert (changed["envs"], changed["domains"]) == (["qa1", "qa2"], ["buyer", "seller"])
