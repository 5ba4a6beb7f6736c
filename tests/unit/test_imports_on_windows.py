"""On Windows an installed server cannot run, but `botfarm --help` and the client's commands work."""

import subprocess
import sys

# Python and the libraries are imported first, so that only this project's own imports are refused.
IMPORT_WITHOUT_UNIX = """
import asyncio, os, signal, subprocess, sys, tempfile
import apscheduler, asyncpg, sqlalchemy.ext.asyncio, typer, uvicorn, uvloop
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
