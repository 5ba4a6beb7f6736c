"""`leases acquire --format dotenv`: readers of .env files get the farm's values, or the lease is released."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

import pytest
from dotenv import dotenv_values
from hypothesis import assume, given
from hypothesis import strategies as st

from botfarm_client.commands.leases.variable_files import dotenv_lines
from botfarm_client.commands.shared.command_errors import CommandError
from botfarm_client.shared.plain_json import plain_json
from support.fake_lease import ACQUIRE, LEASE_ID, farm, user

PASSWORDS = [
    "hunter2",
    "it's",
    r"a\b",
    "a#b $c",
    'it\'s "both"',
    r"a\\b",
    r"C:\it's",
    "'quoted'",
    " blank at both ends ",
    "`id` $(id)",
    "a=b",
    "#",
    "Zürich €",
    "\\",
]
UNREADABLE = ["${HOME}", "it's ${HOME}", "two\nlines", "it's $5", "'\"#", r"a\'b#", '"both" of it\'s']
NASTY = {"team": "O'Brien", "path": r"a\b", "home": "${HOME} $(id)", "text": 'a "b"\n# `c` é\t'}


def read_by_python(text: str) -> Mapping[str, str | None]:
    return dotenv_values(stream=StringIO(text))


def read_by_node(text: str, folder: Path) -> Mapping[str, str | None]:
    (folder / "lease.env").write_text(text, encoding="utf-8")
    script = "process.stdout.write(JSON.stringify(process.env))"
    command = ["node", f"--env-file={folder / 'lease.env'}", "-e", script]
    found: dict[str, str] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return found


def written(password: str) -> str:
    return farm(user(1, password=password, labels=NASTY), user(2)).run(*ACQUIRE, "--format", "dotenv").out


def check(found: Mapping[str, str | None], password: str) -> None:
    assert found["BOTFARM_PASSWORD"] == password
    assert (found["BOTFARM_LOGIN"], found["BOTFARM_LEASE_ID"]) == ("u1@x.test", LEASE_ID)
    first, second = json.loads(found["BOTFARM_USERS"] or "")
    assert (first["password"], first["labels"], second["login"]) == (password, NASTY, "u2@x.test")


@pytest.mark.parametrize("password", PASSWORDS)
def test_python_dotenv_reads_what_the_farm_gave(password: str) -> None:
    check(read_by_python(written(password)), password)


@pytest.mark.skipif(not shutil.which("node"), reason="needs Node.js")
@pytest.mark.parametrize("password", PASSWORDS)
def test_node_reads_what_the_farm_gave(password: str, tmp_path: Path) -> None:
    check(read_by_node(written(password), tmp_path), password)


@pytest.mark.parametrize("password", UNREADABLE)
def test_a_value_that_dotenv_readers_disagree_on_is_refused_and_the_lease_released(password: str) -> None:
    asked = farm(user(1, password=password))
    refused = asked.run(*ACQUIRE, "--format", "dotenv", exit_code=1)
    (line,) = refused.err.splitlines()
    assert line.startswith("botfarm: BOTFARM_PASSWORD has characters that readers of .env files")
    assert "--format env" in line
    assert (refused.out, password in line) == ("", False)
    assert asked.asked[-1] == f"POST /leases/{LEASE_ID}/release"


@given(
    st.text(
        st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]) | st.sampled_from("'\"\\$#{}` "),
        min_size=1,
    )
)
def test_every_dotenv_value_that_is_written_is_read_back(value: str) -> None:
    try:
        lines = dotenv_lines({"BOTFARM_PASSWORD": value})
    except CommandError:
        assume(False)
    assert read_by_python(lines) == {"BOTFARM_PASSWORD": value}


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none()))
def test_json_needs_no_quotes_and_stays_the_same(document: dict[str, object]) -> None:
    text = plain_json(document)
    assert json.loads(text) == document
    assert not set("'$`#\n") & set(text)
    assert text.count("\\") == text.count("\\u")


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_json_is_the_same_text_in_a_shell_and_in_a_reader_of_env_files(shell: str) -> None:
    lines = farm(user(1, labels=NASTY, password="it's")).run(*ACQUIRE, "--format", "env").out
    shown = subprocess.run(
        [shell, "-c", 'eval "$1"; printf %s "$BOTFARM_USERS"', shell, lines], capture_output=True, check=True
    ).stdout.decode()
    assert shown == read_by_python(lines)["BOTFARM_USERS"]
    assert json.loads(shown)[0]["labels"] == NASTY
