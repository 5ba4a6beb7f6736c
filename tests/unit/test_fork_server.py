"""A command of the fork server cannot be told from one that was started."""

import os
from collections.abc import Iterator

import pytest

from botfarm_client.testing import FakeFarm, FakeUser
from support.forked_processes import ForkServer
from support.processes import (
    BOTFARM,
    CAN_FORK,
    CHECKOUT,
    assert_dies,
    clean_environment,
    run_botfarm,
    running,
)

pytestmark = pytest.mark.skipif(not CAN_FORK, reason="has no fork server")
# Waits until the command has four open files: the standard ones and its connection to the farm. Shows the command's
# working directory, threads and signals, whether it leads a session, and the variables that it hands on.
SHOW = """
cd "/proc/$PPID"
until [ "$(ls fd | wc -l)" = 4 ]; do sleep 0.01; done
readlink cwd
grep -E "^(Sig(Blk|Ign|Cgt)|Threads):" status
[ "$(ps -o sid= -p "$PPID" | tr -d ' ')" = "$PPID" ] && echo leads
env | grep -E "^(BOTFARM_URL|MARK|PATH|PYTHON[A-Z]*)=" | sort
"""


@pytest.fixture
def farm() -> Iterator[FakeFarm]:
    with FakeFarm([FakeUser("a@x.test")]) as opened:
        yield opened


def test_a_forked_command_has_the_state_of_a_started_one(farm: FakeFarm) -> None:
    command = ("exec", "--", "sh", "-c", SHOW)
    environment = {**farm.environment, "MARK": "here"}
    forked = run_botfarm(*command, environment=environment)
    with running(BOTFARM, *command, environment=environment) as started:
        assert started.wait() == 0, started.output
    assert forked.stdout == started.output
    assert "leads\n" in forked.stdout
    assert "MARK=here\n" in forked.stdout


@pytest.mark.parametrize(
    ("script", "exit_code"), [("exit 3", 3), ("kill -9 $PPID", -9), ("kill $PPID; exec sleep 1000", 143)]
)
def test_a_forked_command_ends_as_a_started_one(farm: FakeFarm, script: str, exit_code: int) -> None:
    assert run_botfarm("exec", "--", "sh", "-c", script, environment=farm.environment).returncode == exit_code


def test_a_forked_command_reads_its_standard_input_and_sees_a_reader_leave(farm: FakeFarm) -> None:
    assert run_botfarm("exec", "--", "cat", environment=farm.environment, stdin="line\n").stdout == "line\n"
    assert (
        run_botfarm("exec", "--", "true", environment=farm.environment, stdin="x" * 100_000).returncode == 0
    )


def test_commands_end_with_their_fork_server(farm: FakeFarm) -> None:
    environment = clean_environment(farm.environment)
    server = ForkServer(environment)
    with open(os.devnull) as nothing:  # noqa: PTH123  no path
        process = server.start(("exec", "--", "sleep", "1000"), environment, CHECKOUT, [nothing.fileno()] * 3)
    server.end()
    assert_dies(process.pid)
    with pytest.raises(EOFError, match="the fork server ended"):
        process.wait()


def test_a_fork_server_that_has_ended_is_a_clear_error() -> None:
    server = ForkServer(clean_environment({}))
    server._process.kill()
    with open(os.devnull) as nothing, pytest.raises(AssertionError, match="the fork server ended"):  # noqa: PTH123
        server.start(("--version",), {}, CHECKOUT, [nothing.fileno()] * 3)
    server.end()
