"""Where the server is installed on Windows it cannot run, but `botfarm --help` and the client's commands work."""

import subprocess
import sys

# What Python and the libraries import of it stays: only this project's own imports are refused.
IMPORT_WITHOUT_UNIX = """
import asyncio, os, signal, subprocess, tempfile, typer, uvicorn, uvloop, asyncpg, sqlalchemy.ext.asyncio, apscheduler
import sys
for name in ("fcntl", "pwd", "resource"):
    sys.modules[name] = None
for name in ("SIGHUP", "SIGKILL", "SIGUSR1"):
    delattr(signal, name)
import botfarm.cli.dev, botfarm.cli.serve, botfarm.cli.worker
"""


def test_server_commands_are_imported_where_unix_modules_are_missing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_WITHOUT_UNIX], check=False, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
