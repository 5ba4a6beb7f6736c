"""A real PgBouncer in transaction mode, where it is installed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from support.live_farm import free_port
from support.processes import Process, running


def find_pgbouncer() -> str | None:
    return shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")


@contextmanager
def pgbouncer(
    program: str, database_url: str, *, sessions: int, port: int = 0, ignoring: str = ""
) -> Iterator[tuple[Process, str]]:
    """With the URL of the same database through it. `ignoring` are start-up parameters; port 0 takes a free one."""
    target, port = urlsplit(database_url), port or free_port()
    with TemporaryDirectory(prefix="botfarm-pgbouncer-") as name:
        configuration = Path(name) / "pgbouncer.ini"
        configuration.write_text(
            f"""[databases]
* = host={target.hostname} port={target.port} user={target.username} password={target.password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {sessions}
max_client_conn = 200
server_login_retry = 1
ignore_startup_parameters = {ignoring}
"""
        )
        command = [program, str(configuration)]
        if os.geteuid() == 0:  # which it refuses to run as
            Path(name).chmod(0o755)
            command = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *command]
        with running(*command, environment={}) as process:
            process.wait_for("process up")
            yield process, f"postgresql://{target.username}@127.0.0.1:{port}{target.path}"
