from typing import Annotated

import typer

import botfarm_client
from botfarm_client.commands.exec.programs import require_program, start_program
from botfarm_client.commands.exec.signals import Signals
from botfarm_client.commands.exec.under_lease import end_of, environment_under
from botfarm_client.commands.shared.command_errors import CommandError, ExitCode, command_error
from botfarm_client.commands.shared.key_values import parse_pairs, parse_wanted
from botfarm_client.commands.shared.options import (
    DEFAULT_URL,
    Count,
    MetadataOptions,
    OneUser,
    Owner,
    PoolDomain,
    PoolEnv,
    PoolProject,
    Url,
    WantedLabelOptions,
    duration_option,
)
from botfarm_client.commands.shared.output import note
from botfarm_client.commands.shared.waiting_notice import waiting_notice
from botfarm_client.errors import BotfarmError, LeaseLostError
from botfarm_client.leasing.ci_variables import this_holder
from botfarm_client.shared.durations import format_duration


def run_under_lease(
    command: Annotated[
        list[str],
        typer.Argument(metavar="COMMAND...", help="With its arguments; after --, if it has options."),
    ],
    *,
    project: PoolProject,
    env: PoolEnv,
    domain: PoolDomain = None,
    user: OneUser = None,
    label: WantedLabelOptions = [],  # noqa: B006  typer makes a new list for each call
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
                    user=user,
                    labels=parse_wanted(label, option="--label"),
                    count=count,
                    ttl=ttl,
                    wait=wait or 0,
                    owner=owner or holder.owner,
                    metadata={**holder.metadata, **parse_pairs(metadata, option="--metadata")},
                )
            with environment_under(lease, command, keep_token=keep_token) as environment:
                exit_code = _run(command, environment, lease, signals)
            _release(lease, command[0])
    except LeaseLostError as lost:  # the machine slept before the command began
        raise CommandError(str(lost), exit_code=ExitCode.LEASE_LOST) from None
    except BotfarmError as error:
        raise command_error(error, url) from None
    raise typer.Exit(exit_code)


def _run(
    command: list[str], environment: dict[str, str], lease: "botfarm_client.Lease", signals: Signals
) -> int:
    program = signals.start(lambda: start_program(command, environment))
    try:
        return end_of(program, lease, signals)
    except LeaseLostError as lost:
        raise CommandError(f"{lost}; {command[0]} was stopped", exit_code=ExitCode.LEASE_LOST) from None


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
