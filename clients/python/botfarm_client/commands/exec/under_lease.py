"""A program under a lease: the environment that it gets, and its end."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir
from types import MappingProxyType

import botfarm_client
from botfarm_client.commands.exec.programs import end_programs, wait_for
from botfarm_client.commands.exec.signals import Signals
from botfarm_client.commands.leases.variables import (
    USERS,
    USERS_FILE,
    lease_variables,
    users_file,
    with_users_file,
)
from botfarm_client.leasing.lease_state import user_documents
from botfarm_client.masks.log_masks import write_masks

DUE, PENDING_PASSWORD = "BOTFARM_DUE", "BOTFARM_PENDING_PASSWORD"
_TOKEN_VARIABLES = ("BOTFARM_TOKEN", "BOTFARM_TOKEN_FILE", "BOTFARM_ID_TOKEN")


@contextmanager
def environment_under(
    lease: "botfarm_client.Lease",
    command: list[str],
    *,
    keep_token: bool,
    more: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[dict[str, str]]:
    """The environment of the program, with `more` variables.

    Without `keep_token` it has no token, because a token could take any user of its scope.
    """
    dropped = {USERS, USERS_FILE, DUE, PENDING_PASSWORD, *(() if keep_token else _TOKEN_VARIABLES)}
    ours = {name: value for name, value in os.environ.items() if name not in dropped}
    users = user_documents(lease.users)
    file = users_file(_temporary_folder())
    try:
        given = {**lease_variables(lease.id, users), **more}
        variables = with_users_file(given, file, beside=ours, arguments=command)
        write_masks(users)
        yield {**ours, **variables}
    finally:
        file.unlink(missing_ok=True)


def end_of(program: "subprocess.Popen[bytes]", lease: "botfarm_client.Lease", signals: Signals) -> int:
    """Waits for the program, and ends it when the lease is lost. Returns its exit code.

    Raises LeaseLostError.
    """
    mark = f"BOTFARM_LEASE_ID={lease.id}"
    lease.on_lost(lambda _: end_programs(mark, program))
    exit_code = wait_for(program)
    if lease.lost.is_set() or signals.told_to_end:
        end_programs(mark, program)  # and the children that it left behind
    lease.check()
    return exit_code


def _temporary_folder() -> Path:
    """The folder for the file of users. A read-only container may have none; most leases need no file."""
    try:
        return Path(gettempdir())
    except FileNotFoundError:
        return Path.cwd()
