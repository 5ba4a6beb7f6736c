"""The processes of the demo, in sessions of their own: Ctrl-C reaches only the demo, which ends them."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

SHOP = Path(__file__).parents[1]
BIN = Path(sys.executable).parent


class DemoError(Exception):
    """What went wrong, for the person who looks."""


class Started:
    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self._process = process
        self._output = output

    @property
    def output(self) -> str:
        return self._output.read_text()

    def says(self, pattern: str, *, seconds: float = 60) -> str:
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.output)):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise DemoError(f"it did not start:\n{self.output}")
            time.sleep(0.05)
        return found[1]

    def wait(self) -> int:
        return self._process.wait()


@contextmanager
def started(*command: str, output: Path, variables: Mapping[str, str] | None = None) -> Iterator[Started]:
    with output.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=SHOP,
            env=_environment(variables or {}),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Started(process, output)
    finally:
        _end(process)


def run(*command: str, output: Path, variables: Mapping[str, str]) -> tuple[int, str]:
    with started(*command, output=output, variables=variables) as process:
        return process.wait(), process.output


def signals_end_the_demo() -> None:
    """SIGTERM and a closed terminal end it as Ctrl-C does: with everything that it has started."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Ours without what might change the demo."""
    ours = {name: value for name, value in os.environ.items() if not re.match("BOTFARM_|SHOP_|PYTEST_", name)}
    return {**ours, "PYTHONUNBUFFERED": "1", **variables}
