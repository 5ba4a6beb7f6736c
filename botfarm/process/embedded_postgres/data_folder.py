"""The data folder, which one process at a time may use."""

import os
from pathlib import Path

from botfarm.errors import OperatorError


class EmbeddedPostgresError(OperatorError):
    """One line for the person at the terminal, with the way out."""


def take_lock(data_dir: Path) -> int:
    """Locks the folder and returns the file's descriptor.

    Raises EmbeddedPostgresError when another botfarm has the lock.
    """
    import fcntl  # noqa: PLC0415  not on Windows, where `botfarm --help` shall work

    try:
        if not data_dir.is_dir():
            data_dir.mkdir(parents=True)
            data_dir.chmod(0o711 if os.geteuid() == 0 else 0o700)  # the server's account must pass
        lock = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        closed = f"cannot write in {Path(error.filename).parent} ({error.strerror})"
        raise EmbeddedPostgresError(f"{closed}: set BOTFARM_DATA_DIR to another folder") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with os.fdopen(lock) as file:
            holder = f"another botfarm (process {file.read()}) uses {data_dir}"
        raise EmbeddedPostgresError(f"{holder}; stop it or set BOTFARM_DATA_DIR") from None
    os.truncate(lock, 0)
    os.write(lock, str(os.getpid()).encode())
    return lock
