import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir
from typing import Annotated

import typer

import botfarm_client
from botfarm_client.commands.exec.programs import end_programs, require_program, start_program, wait_for
from botfarm_client.commands.exec.signals import Signals
from botfarm_client.commands.leases.variables import (
    USERS,
    USERS_FILE,
    lease_variables,
    users_file,
    with_users_file,
)
from botfarm_client.commands.shared.command_errors import CommandError, ExitCode, command_error
from botfarm_client.commands.shared.key_values import parse_pairs
from botfarm_client.commands.shared.options import (
    DEFAULT_URL,
    Count,
    Domain,
    DomainOption,
    LabelOptions,
    MetadataOptions,
    Owner,
    PoolEnv,
    PoolProject,
    Url,
    duration_option,
)
from botfarm_client.commands.shared.output import note
from botfarm_client.commands.shared.waiting_notice import waiting_notice
from botfarm_client.errors import BotfarmError, LeaseLostError
from botfarm_client.leasing.ci_variables import this_holder
from botfarm_client.leasing.lease_state import user_documents
from botfarm_client.masks.log_masks import write_masks
from botfarm_client.shared.durations import format_duration

_TOKEN_VARIABLES = ("BOTFARM_TOKEN", "BOTFARM_TOKEN_FILE")


def run_under_lease(
    command: Annotated[
        list[str],
        typer.Argument(metavar="COMMAND...", help="With its arguments; after --, if it has options."),
    ],
    *,
    project: PoolProject,
    env: PoolEnv,
    domain: DomainOption = Domain.REGULAR,
    label: LabelOptions = [],  # noqa: B006  typer makes a new list for each call
    count: Count = 1,
    ttl: Annotated[
        int | None,
        duration_option("--ttl", "How long they stay taken when this is killed; else as the project says."),
    ] = None,
    wait: Annotated[
        int | None, duration_option("--wait", "How long to wait until enough are free; else not at all.")
    ] = None,
    owner: Owner = None,
    metadata: MetadataOptions = [],  # noqa: B006
    keep_token: Annotated[
        bool, typer.Option("--keep-token", help="Leave BOTFARM_TOKEN to the command, for one-time codes.")
    ] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Run a command that has users while it runs. Ends with its exit code, or 75 if the users are lost."""
    require_program(command[0])
    holder = this_holder()
    try:
        with Signals() as signals, botfarm_client.Botfarm(url, project=project, env=env) as farm:
            with waiting_notice(wait or 0):
                lease = farm.acquire(
                    domain=domain,
                    labels=parse_pairs(label, option="--label"),
                    count=count,
                    ttl=ttl,
                    wait=wait or 0,
                    owner=owner or holder.owner,
                    metadata={**holder.metadata, **parse_pairs(metadata, option="--metadata")},
                )
            with _environment(lease, command, keep_token=keep_token) as environment:
                exit_code = _run(command, environment, lease, signals)
            _release(lease, command[0])
    except LeaseLostError as lost:  # the machine slept before the command began
        raise CommandError(str(lost), exit_code=ExitCode.LEASE_LOST) from None
    except BotfarmError as error:
        raise command_error(error, url) from None
    raise typer.Exit(exit_code)


@contextmanager
def _environment(
    lease: "botfarm_client.Lease", command: list[str], *, keep_token: bool
) -> Iterator[dict[str, str]]:
    """The environment of the program, without the token, which could take any user of its scope."""
    dropped = {USERS, USERS_FILE, *(() if keep_token else _TOKEN_VARIABLES)}
    ours = {name: value for name, value in os.environ.items() if name not in dropped}
    users = user_documents(lease.users)
    file = users_file(_temporary_folder())
    try:
        variables = with_users_file(lease_variables(lease.id, users), file, beside=ours, arguments=command)
        write_masks(users)
        yield {**ours, **variables}
    finally:
        file.unlink(missing_ok=True)


def _temporary_folder() -> Path:
    """The folder for the file of users. A read-only container may have none; most leases need no file."""
    try:
        return Path(gettempdir())
    except FileNotFoundError:
        return Path.cwd()


def _run(
    command: list[str], environment: dict[str, str], lease: "botfarm_client.Lease", signals: Signals
) -> int:
    program = signals.start(lambda: start_program(command, environment))
    mark = f"BOTFARM_LEASE_ID={lease.id}"
    lease.on_lost(lambda _: end_programs(mark, program))
    exit_code = wait_for(program)
    if lease.lost.is_set() or signals.told_to_end:
        end_programs(mark, program)  # and the children that it left behind
    try:
        lease.check()
    except LeaseLostError as lost:
        raise CommandError(f"{lost}; {command[0]} was stopped", exit_code=ExitCode.LEASE_LOST) from None
    return exit_code


def _release(lease: "botfarm_client.Lease", command: str) -> None:
    try:
        lease.release()
    except LeaseLostError as lost:
        line = f"{lost}: do not trust what {command} has found"
        raise CommandError(line, exit_code=ExitCode.LEASE_LOST) from None
    except BotfarmError as error:  # the command itself has not failed
        note(
            f"the lease was not released ({error}): it ends by itself, in {format_duration(lease.expires_in)}"
        )
