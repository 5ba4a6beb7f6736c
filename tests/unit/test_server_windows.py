"""A farm cannot run on Windows: each command of the server says so, and `botfarm --help` lists them."""

import subprocess
import sys

import pytest

from support.processes import CHECKOUT, clean_environment

MAIN = """
import sys, support.as_on_windows
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


@pytest.mark.parametrize("command", ["dev", "keys", "serve"])
def test_a_command_of_the_server_says_in_one_line_that_it_does_not_run_there(command: str) -> None:
    finished = run(command)
    assert (finished.returncode, finished.stdout) == (1, "")
    assert finished.stderr == (
        f"botfarm: `botfarm {command}` does not run on Windows: use the container image, WSL, Linux or macOS\n"
    )
