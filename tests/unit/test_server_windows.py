"""On Windows a farm cannot run: its commands say so, and `botfarm --help` lists them."""

import subprocess
import sys

import pytest

from support.processes import CHECKOUT, clean_environment

# Libraries are imported first, so that only this project's own code meets a system without POSIX.
MAIN = """
import sys
import apscheduler, asyncpg, fastapi, pydantic.fields, sqlalchemy.ext.asyncio, typer, uvicorn, uvloop, zoneinfo
import support.as_on_windows
from botfarm_client.cli import main
main(sys.argv[1:])
"""


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**clean_environment({}), "PYTHONPATH": str(CHECKOUT / "tests")}
    command = [sys.executable, "-c", MAIN, *arguments]
    return subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=60)


def test_help_lists_the_commands_of_the_server() -> None:
    finished = run("--help")
    assert (finished.returncode, finished.stderr) == (0, "")
    assert "Run everything here" in finished.stdout


@pytest.mark.parametrize("command", ["dev", "serve", "worker"])
def test_a_farm_says_in_one_line_that_it_does_not_run_there(command: str) -> None:
    finished = run(command)
    assert finished.returncode == 1
    assert finished.stderr == (
        "botfarm: a farm does not run on Windows itself: run it in its container image, in WSL, "
        "or on Linux or macOS; the commands over HTTP work here\n"
    )
