"""Starts `botfarm` by a fork server."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from support import fork_server
from support.fork_server import LONGEST_MESSAGE


class ForkServer:
    def __init__(self, environment: Mapping[str, str]) -> None:
        self._errors = tempfile.NamedTemporaryFile("w+", prefix="botfarm-fork-server-")  # noqa: SIM115  closed in end()
        self._requests, its_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its_end:
            self._process = subprocess.Popen(
                # -P, because the files beside this one have names of modules.
                [sys.executable, "-P", fork_server.__file__, str(its_end.fileno())],
                env={name: value for name, value in environment.items() if name != "PYTHONUNBUFFERED"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                pass_fds=[its_end.fileno()],
                start_new_session=True,
            )

    def start(
        self, arguments: Sequence[str], environment: Mapping[str, str], cwd: Path, files: Sequence[int]
    ) -> "ForkedProcess":
        """Starts `botfarm`. `files` are its standard input, output and error."""
        reports, its_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with its_end, tempfile.TemporaryFile("w+") as command:
                json.dump({"arguments": arguments, "environment": environment, "cwd": str(cwd)}, command)
                command.seek(0)
                socket.send_fds(self._requests, [b"start"], [its_end.fileno(), command.fileno(), *files])
            return ForkedProcess(reports)
        except (OSError, EOFError):
            reports.close()
            self._process.wait(60)
            raise AssertionError(f"the fork server ended:\n{Path(self._errors.name).read_text()}") from None

    def end(self) -> None:
        self._requests.close()
        self._process.wait(60)
        self._errors.close()


class ForkedProcess:
    """A command that the fork server has started, with the methods of `subprocess.Popen` that tests use."""

    def __init__(self, reports: socket.socket) -> None:
        self._reports = reports
        self.pid = self._next_report()
        self.returncode: int | None = None

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._reports], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"botfarm with pid {self.pid}", timeout or 0)
            with self._reports:
                self.returncode = self._next_report()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _next_report(self) -> int:
        if report := self._reports.recv(LONGEST_MESSAGE):
            return int(report)
        raise EOFError("the fork server ended")
