"""Commands as processes: started, read until they say what is waited for, and ended by their own pid.

`running` starts any program. `running_botfarm` and `run_botfarm` start `botfarm` by the fork server, which takes a
tenth of the processor time or less.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from pathlib import Path
from threading import Lock

from support.forked_processes import ForkedProcess, ForkServer

CHECKOUT = Path(__file__).parents[2]
BOTFARM = str(Path(sys.executable).with_name("botfarm"))
# The fork server needs pidfds, and a macOS process that was forked cannot look up the system's proxies.
CAN_FORK = hasattr(os, "pidfd_open")
_starting_fork_server = Lock()
StartedProcess = ForkedProcess | subprocess.Popen[bytes]
Starter = Callable[[Sequence[str], Mapping[str, str], Path, Sequence[int]], StartedProcess]


def start_program(
    command: Sequence[str], environment: Mapping[str, str], cwd: Path, files: Sequence[int]
) -> StartedProcess:
    """Starts a program. `files` are its standard input, output and error."""
    standard_input, output, error = files
    return subprocess.Popen(
        command,
        env=clean_environment(environment),
        cwd=cwd,
        stdin=standard_input,
        stdout=output,
        stderr=error,
        start_new_session=True,  # Ctrl-C goes to the group: see interrupt()
    )


def start_botfarm(
    arguments: Sequence[str], environment: Mapping[str, str], cwd: Path, files: Sequence[int]
) -> StartedProcess:
    """Starts `botfarm` by the fork server, where that can be."""
    if not CAN_FORK:
        return start_program((BOTFARM, *arguments), environment, cwd, files)
    with _starting_fork_server:
        server = _fork_server()
    return server.start(arguments, clean_environment(environment), cwd, files)


class Process:
    """Both output streams go to one file, so nothing blocks and everything can be shown when a test fails."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        cwd: Path = CHECKOUT,
        start: Starter = start_program,
    ) -> None:
        self._output = tempfile.NamedTemporaryFile("w+", prefix="botfarm-output-")  # noqa: SIM115  closed in end()
        output = self._output.fileno()
        with open(os.devnull) as nothing:  # noqa: PTH123  no path
            self._process = start(command, environment, cwd, (nothing.fileno(), output, output))
        self.pid = self._process.pid
        self._kept = ""

    @property
    def output(self) -> str:
        return self._kept or Path(self._output.name).read_text()

    def wait_for(self, pattern: str, *, seconds: float = 60) -> re.Match[str]:
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.output)):
            assert self._process.poll() is None, f"it ended with {self._process.returncode}:\n{self.output}"
            assert time.monotonic() < deadline, f"no {pattern!r} within {seconds} s:\n{self.output}"
            time.sleep(0.02)
        return found

    def url(self) -> str:
        """Waits until `botfarm serve` or `botfarm worker` is up. Gives the URL of the API, or of the probes."""
        return self.wait_for(r'"(?:url|probes)": "(\S+)", "event": "(?:serving|working)"')[1]

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def wait(self, *, seconds: float = 60) -> int:
        return self._process.wait(seconds)

    def interrupt(self) -> None:
        """What a terminal does on Ctrl-C: the whole foreground group gets the signal."""
        os.killpg(self.pid, signal.SIGINT)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
        self._kept = self.output  # the file goes with its end
        self._output.close()


@cache
def _fork_server() -> ForkServer:
    return ForkServer(clean_environment({}))


def end_fork_server() -> None:
    """At the end of the tests, if there was a server."""
    if _fork_server.cache_info().currsize:
        _fork_server().end()


def heed_signals() -> None:
    """A shell in the background ignores Ctrl-C, and `nohup` a closed terminal. The commands would inherit both."""
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def clean_environment(additions: Mapping[str, str]) -> dict[str, str]:
    """Ours without any BOTFARM_ variable, so that a test says all that matters.

    Bytecode is kept, because otherwise each of some hundred commands compiles the sources anew.
    """
    ours = os.environ.items()
    kept = {k: v for k, v in ours if not k.startswith("BOTFARM_") and k != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, **additions}


def run_botfarm(
    *arguments: str, environment: Mapping[str, str], stdin: str = "", seconds: float = 60
) -> "subprocess.CompletedProcess[str]":
    """Runs `botfarm` to its end."""
    reading, writing = os.pipe()
    with (
        os.fdopen(reading) as standard_input,
        os.fdopen(writing, "w") as pipe,
        tempfile.TemporaryFile("w+") as output,
        tempfile.TemporaryFile("w+") as error,
    ):
        files = (standard_input.fileno(), output.fileno(), error.fileno())
        process = start_botfarm(arguments, environment, CHECKOUT, files)
        try:
            standard_input.close()
            with suppress(BrokenPipeError), pipe:
                pipe.write(stdin)
            exit_code = process.wait(seconds)
        finally:
            process.kill()
            process.wait()
        for file in (output, error):
            file.seek(0)
        return subprocess.CompletedProcess(arguments, exit_code, output.read(), error.read())


def running(
    *command: str, environment: Mapping[str, str], cwd: Path = CHECKOUT
) -> AbstractContextManager[Process]:
    """Runs a program until the end of the block."""
    return _running(command, environment, cwd, start_program)


def running_botfarm(*arguments: str, environment: Mapping[str, str]) -> AbstractContextManager[Process]:
    """Runs `botfarm` until the end of the block."""
    return _running(arguments, environment, CHECKOUT, start_botfarm)


@contextmanager
def _running(
    command: Sequence[str], environment: Mapping[str, str], cwd: Path, start: Starter
) -> Iterator[Process]:
    process = Process(command, environment, cwd, start)
    try:
        yield process
    except BaseException:
        print(f"{' '.join(command)} said last:\n{process.output[-4_000:]}")  # noqa: T201  shown when the test fails
        raise
    finally:
        process.end()


def assert_dies(pid: int, *, seconds: float = 60) -> None:
    """A process that has ended stays in the table until its parent, or the system's first process, looks at it."""
    deadline = time.monotonic() + seconds
    while is_alive(pid):
        assert time.monotonic() < deadline, f"process {pid} lives on"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
