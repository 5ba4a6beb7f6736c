import logging
from contextlib import suppress
from typing import Annotated

import typer

import botfarm_client
from botfarm_client.commands.chores.program_output import ProgramOutput
from botfarm_client.commands.chores.tally import Tally
from botfarm_client.commands.chores.verdicts import verdict_of
from botfarm_client.commands.exec.programs import require_program, start_program
from botfarm_client.commands.exec.signals import Signals
from botfarm_client.commands.exec.under_lease import DUE, PENDING_PASSWORD, end_of, environment_under
from botfarm_client.commands.shared.command_errors import ExitCode, command_error
from botfarm_client.commands.shared.key_values import parse_pairs, parse_wanted
from botfarm_client.commands.shared.options import (
    DEFAULT_URL,
    MetadataOptions,
    Owner,
    PoolDomain,
    PoolEnv,
    PoolProject,
    Url,
    WantedLabelOptions,
    duration_option,
)
from botfarm_client.errors import BotfarmError, LeaseLostError
from botfarm_client.leasing.ci_variables import this_holder
from botfarm_client.leasing.lease_state import user_documents
from botfarm_client.leasing.verdicts import Verdict


def run(
    command: Annotated[
        list[str],
        typer.Argument(metavar="COMMAND...", help="With its arguments; after --, if it has options."),
    ],
    *,
    project: PoolProject,
    env: PoolEnv,
    domain: PoolDomain = None,
    label: WantedLabelOptions = [],  # noqa: B006  typer makes a new list for each call
    forever: Annotated[
        bool, typer.Option("--forever", help="Wait for chores, instead of ending when none is due.")
    ] = False,
    ttl: Annotated[
        int | None,
        duration_option(
            "--ttl", "How long a user stays taken when this is killed; else as the project says."
        ),
    ] = None,
    owner: Owner = None,
    metadata: MetadataOptions = [],  # noqa: B006
    as_json: Annotated[
        bool, typer.Option("--json", help="Print how many chores ended how, as JSON.")
    ] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Run a command for each user that is dirty or due: 0 is ok, 10 dirty, 11 broken.

    The last line that the command prints before 10 or 11 says why: "captcha: asks for a picture".
    """
    require_program(command[0])
    logging.basicConfig(format="botfarm: %(message)s")
    holder, tally = this_holder(), Tally()
    try:
        with Signals() as signals, botfarm_client.Botfarm(url, project=project, env=env) as farm:
            chores = farm.chores(
                domain=domain,
                labels=parse_wanted(label, option="--label"),
                ttl=ttl,
                owner=owner or holder.owner,
                metadata={**holder.metadata, **parse_pairs(metadata, option="--metadata")},
                forever=forever,
            )
            for chore in chores:
                exit_code = _do(chore, command, signals, tally, url=url)
                if signals.told_to_end:
                    raise typer.Exit(exit_code)
    except BotfarmError as error:
        raise command_error(error, url) from None
    finally:
        if tally.total:
            tally.show(as_json=as_json)
    if not tally.total:  # an error or a signal before the first chore is all there is to say
        tally.show(as_json=as_json)


def _do(
    chore: "botfarm_client.Chore", command: list[str], signals: Signals, tally: Tally, *, url: str
) -> int:
    """Runs the command for a chore, and releases the chore. Returns the command's exit code."""
    name = f"{chore.user.login} ({', '.join(chore.due)})"
    verdict: Verdict | None = None
    exit_code = int(ExitCode.LEASE_LOST)
    with suppress(LeaseLostError):  # the loop logs it
        exit_code, verdict = _run(chore, command, signals, url=url)
        with suppress(BotfarmError):  # the loop tries once more, and logs it
            chore.lease.release(verdict.outcome, verdict.note, reason=verdict.reason)
        if chore.lease.lost.is_set():
            verdict = None
    signals.forget_program()
    tally.add(name, verdict)
    return exit_code


def _run(
    chore: "botfarm_client.Chore", command: list[str], signals: Signals, *, url: str
) -> tuple[int, Verdict]:
    """The command's exit code, and what it says of the user. Raises LeaseLostError."""
    users = user_documents(chore.lease.users)
    pending = chore.user.pending_password
    more = {"BOTFARM_URL": url, DUE: ",".join(chore.due)}
    if pending is not None:
        more[PENDING_PASSWORD] = pending
    # With the token, because a keeper stores passwords and sessions by further requests.
    with environment_under(chore.lease, command, keep_token=True, more=more) as environment:
        program = signals.start(lambda: start_program(command, environment, captured=True))
        output = ProgramOutput(program)
        exit_code = end_of(program, chore.lease, signals)
    if signals.told_to_end:
        return exit_code, Verdict("dirty", note="the keeper was told to end")
    return exit_code, verdict_of(exit_code, output.last_line(), users)
