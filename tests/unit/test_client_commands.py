"""The help of the command line, what it imports, and usage errors that need no farm."""

import signal
import subprocess
import sys
from typing import cast

import pytest
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from botfarm.cli.command_table import COMMANDS as SERVER_COMMANDS
from botfarm_client.cli import app, main
from botfarm_client.commands.command_table import COMMANDS as CLIENT_COMMANDS
from support.processes import clean_environment

COMMANDS = {
    "users": (
        "list",
        "show",
        "history",
        "add",
        "import",
        "export",
        "update",
        "quarantine",
        "restore",
        "retire",
        "delete",
        "bulk",
    ),
    "projects": ("list", "show", "add", "update", "delete"),
    "leases": (
        "list",
        "waiting",
        "show",
        "acquire",
        "hold",
        "totp",
        "write-back",
        "renew",
        "release",
        "force-release",
    ),
    "stats": ("pools", "users", "holders"),
    "tokens": ("list", "create", "revoke"),
    "chores": ("run", "rotate", "confirm"),
}
NOBODY = "00000000-0000-4000-8000-000000000000"
SINGLE = ("audit", "pools")
WHERE = ("--project", "shop", "--env", "stage")


def run(*arguments: str, exit_code: int = 0) -> str:
    # Width and colours as without a terminal, whatever the terminal of the tests is.
    result = CliRunner().invoke(app, arguments, prog_name="botfarm", env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert result.exit_code == exit_code, result.output
    return result.output


def test_the_help_of_all_commands_shows_the_exit_codes() -> None:
    text = run("--help")
    assert not [noun for noun in (*COMMANDS, *SINGLE, "exec") if noun not in text]
    assert "Exit codes: 0 ok, 1 error, 2 wrong usage, 3 import with bad lines, 4 no such thing" in text


@pytest.mark.parametrize("noun", COMMANDS)
def test_a_noun_shows_its_verbs_in_the_same_order(noun: str) -> None:
    text = run(noun, "--help")
    found = [
        line.split()[1] for line in text.splitlines() if line.startswith("\u2502 ") and "--" not in line[:4]
    ]
    assert tuple(found) == COMMANDS[noun]
    assert "--install-completion" not in text


@pytest.mark.parametrize(
    "command",
    [*((each,) for each in SINGLE), *((noun, verb) for noun, verbs in COMMANDS.items() for verb in verbs)],
)
def test_every_command_explains_itself(command: tuple[str, ...]) -> None:
    text = run(*command, "--help")
    assert f"Usage: botfarm {' '.join(command)} " in text
    for option in ("--json", "--url", "BOTFARM_URL", "http://127.0.0.1:8000"):
        assert option in text


def test_exec_explains_itself() -> None:
    text = run("exec", "--help")
    assert "Usage: botfarm exec [OPTIONS] " in text
    for option in ("BOTFARM_PROJECT", "BOTFARM_ENV", "BOTFARM_URL", "--keep-token"):
        assert option in text


@pytest.mark.parametrize(
    "arguments",
    [
        ("exec", *WHERE),
        ("exec", "--project", "shop", "--", "true"),
        ("exec", *WHERE, "--json", "true"),
        ("users", "add", "a@x.test"),
        ("users", "add", "a@x.test", *WHERE, "--password", "hunter2"),
        ("users", "add", "a@x.test", *WHERE, "--label", "team"),
        ("users", "update", NOBODY),
        ("users", "bulk", "restore"),
        ("users", "quarantine", NOBODY),
        ("users", "quarantine", NOBODY, "--reason", "captcha", "--for", "a week"),
        ("users", "list", "--limit", "0"),
        ("users", "list", "--state", "tired"),
        ("projects", "update", "shop"),
        ("leases", "show", "7"),
        ("leases", "acquire", *WHERE, "--count", "0"),
        ("leases", "acquire", *WHERE, "--ttl", "a week"),
        ("leases", "acquire", "--project", "shop"),
        ("leases", "release", NOBODY, "--outcome", "fine"),
        ("leases", "force-release", NOBODY),
        ("leases", "hold", NOBODY),
        ("leases", "hold", "--note", "why"),
        ("leases", "hold", "--note", "why", "--project", "shop"),
        ("leases", "hold", NOBODY, "--note", "why", *WHERE),
        ("chores", "run", *WHERE),
        ("chores", "rotate"),
        ("chores", "rotate", "--lease", NOBODY),
        ("chores", "confirm", "--lease", "7", "--user", NOBODY),
    ],
)
def test_wrong_usage_is_noticed_before_the_farm_is_asked(arguments: tuple[str, ...]) -> None:
    run(*arguments, "--url", "http://127.0.0.1:1", exit_code=2)


def test_a_signal_that_was_ignored_before_stays_ignored() -> None:
    former = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with pytest.raises(SystemExit):
            main(["--version"])
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, former)


RUN_AND_SHOW_IMPORTS = """
import sys
from botfarm_client.cli import main
try:
    main()
finally:
    imported = {name.partition(".")[0] for name, module in sys.modules.items() if module}
    print(*sorted(imported), file=sys.stderr)
"""
# Each takes a tenth of a second or more. Of the server, only the table of commands is imported.
ONLY_TO_RUN_A_COMMAND = {
    "alembic",
    "asyncio",
    "asyncpg",
    "cryptography",
    "fastapi",
    "httpcore",
    "httpx",
    "pydantic",
    "sqlalchemy",
    "ssl",
    "uvicorn",
}


@pytest.mark.parametrize("command", [(), *((name,) for name in CLIENT_COMMANDS), ("leases", "acquire")])
def test_help_imports_no_server_and_no_http_client(command: tuple[str, ...]) -> None:
    shown, imported = run_and_show_imports(*command, "--help")
    assert "Usage: botfarm" in shown
    assert "typer" in imported
    assert not imported & ONLY_TO_RUN_A_COMMAND


def test_a_command_that_asks_the_farm_imports_httpx_without_its_command_line() -> None:
    _, imported = run_and_show_imports("pools", "--url", "http://127.0.0.1:1", exit_code=7)
    assert "httpx" in imported
    assert not imported & {"click", "pygments", "rich", "sqlalchemy"}


def run_and_show_imports(*arguments: str, exit_code: int = 0) -> tuple[str, set[str]]:
    finished = subprocess.run(
        [sys.executable, "-c", RUN_AND_SHOW_IMPORTS, *arguments],
        env=clean_environment({"BOTFARM_TOKEN": "token"}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == exit_code, finished.stderr
    return finished.stdout, set(finished.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("name", [*CLIENT_COMMANDS, *SERVER_COMMANDS])
def test_the_list_of_commands_shows_the_first_line_of_the_help_of_each(name: str) -> None:
    group = get_command(app)
    context = group.make_context("botfarm", ["--version"], resilient_parsing=True)
    _, command, _ = cast("TyperGroup", group).resolve_command(context, [name])
    assert command is not None
    assert (command.help or "").partition("\n")[0] == {**CLIENT_COMMANDS, **SERVER_COMMANDS}[name].help
