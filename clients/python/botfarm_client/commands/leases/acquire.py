from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from typing import Annotated
from uuid import uuid4

import typer

from botfarm_client.commands.leases import github_actions
from botfarm_client.commands.leases.variable_files import dotenv_lines, shell_lines
from botfarm_client.commands.leases.variables import lease_variables, require_room
from botfarm_client.commands.leases.views import print_lease
from botfarm_client.commands.shared.command_errors import CommandError, command_error
from botfarm_client.commands.shared.farm_access import open_farm
from botfarm_client.commands.shared.key_values import parse_pairs, parse_wanted
from botfarm_client.commands.shared.options import (
    DEFAULT_URL,
    AsJson,
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
from botfarm_client.commands.shared.output import note, print_json, say
from botfarm_client.commands.shared.waiting_notice import waiting_notice
from botfarm_client.connection.api_calls import Json
from botfarm_client.connection.retrying import carry_out
from botfarm_client.errors import BotfarmError, LostAnswerError
from botfarm_client.leasing.acquiring import Acquiring
from botfarm_client.leasing.ci_variables import this_job
from botfarm_client.masks.log_masks import in_github_actions, write_masks
from botfarm_client.shared.durations import format_duration
from botfarm_client.shared.ids import is_id


class Format(StrEnum):
    TEXT = "text"
    JSON = "json"
    ENV = "env"
    DOTENV = "dotenv"
    GITHUB = "github"


def acquire(
    *,
    project: PoolProject,
    env: PoolEnv,
    domain: PoolDomain = None,
    user: OneUser = None,
    label: WantedLabelOptions = [],  # noqa: B006  typer makes a new list for each call
    count: Count = 1,
    ttl: Annotated[
        int | None, duration_option("--ttl", "How long to have them; else as the project says.")
    ] = None,
    wait: Annotated[
        int | None, duration_option("--wait", "How long to wait until enough are free; else not at all.")
    ] = None,
    owner: Owner = None,
    metadata: MetadataOptions = [],  # noqa: B006
    idempotency_key: Annotated[
        str | None,
        typer.Option("--idempotency-key", metavar="KEY", help="The same key gets the same live lease."),
    ] = None,
    output_format: Annotated[
        Format,
        typer.Option(
            "--format",
            help="env: lines for eval in a shell; dotenv: for readers of .env files; "
            "github: for the later steps of the job, masked.",
        ),
    ] = Format.TEXT,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Take users and print them with their credentials. They are yours until the lease ends."""
    if as_json and output_format not in {Format.TEXT, Format.JSON}:
        raise typer.BadParameter("not together with --json", param_hint="--format")
    if output_format is Format.GITHUB:
        github_actions.require_files()
    # A request under the caller's key must be the same wherever it is repeated, so it names no job.
    job = None if idempotency_key else this_job()
    body: Json = {
        "project_id" if is_id(project) else "project": project,
        "env": env,
        "domain": domain,
        "labels": parse_wanted(label, option="--label"),
        "count": count,
        "ttl_seconds": ttl,
        "owner": owner or (job and job.owner),
        **({} if user is None else {"user": user}),
        "metadata": {**(job.metadata if job else {}), **parse_pairs(metadata, option="--metadata")},
    }
    lease = _take(body, key=idempotency_key, wait=wait or 0, url=url)
    with _released_if_not_handed_over(lease, url=url, can_be_repeated=idempotency_key is not None):
        _hand_over(lease, Format.JSON if as_json else output_format, project=project)
    if ttl and lease["ttl_seconds"] < ttl:
        granted = format_duration(lease["ttl_seconds"])
        note(
            f"the farm grants {granted} of the {format_duration(ttl)}: renew in time (`botfarm leases renew`)"
        )


def _take(body: Json, *, key: str | None, wait: int, url: str) -> Json:
    ours = str(uuid4())
    acquiring = Acquiring(body, wait=wait, keys=[key or ours])
    with open_farm(url) as farm, waiting_notice(wait):
        try:
            return carry_out(acquiring.steps(), farm).answer
        except LostAnswerError as lost:
            cause = command_error(lost.__cause__ if isinstance(lost.__cause__, BotfarmError) else lost, url)
            raise CommandError(
                f"{cause}; users may have been taken: "
                f"the same command with --idempotency-key {key or ours} gets them",
                exit_code=cause.exit_code,
            ) from None
        except BotfarmError:
            raise
        except BaseException:
            if key is None:  # with a key of the caller's, the same command gets the lease
                with suppress(BotfarmError):
                    carry_out(acquiring.taking_back(), farm)
            raise


def _hand_over(lease: Json, output_format: Format, *, project: str) -> None:
    variables = lease_variables(lease["id"], lease["users"])
    if output_format in {Format.ENV, Format.DOTENV}:
        require_room(variables)
    if output_format not in {Format.TEXT, Format.GITHUB}:
        write_masks(lease["users"])
    match output_format:
        case Format.TEXT:
            if in_github_actions():
                github_actions.say_masks(lease["users"])
            print_lease(lease, project=project)
        case Format.JSON:
            print_json(lease)
        case Format.ENV:
            say(shell_lines(variables))
        case Format.DOTENV:
            say(dotenv_lines(variables))
        case Format.GITHUB:
            github_actions.hand_on(variables, lease["users"])
            logins = ", ".join(user["login"] for user in lease["users"])
            say(f"Leased {logins} for {format_duration(lease['expires_in'])}: lease {lease['id']}")


@contextmanager
def _released_if_not_handed_over(lease: Json, *, url: str, can_be_repeated: bool) -> Iterator[None]:
    """Releases a lease that could not be printed or was interrupted, because nobody else knows it."""
    try:
        yield
    except BaseException:
        if not can_be_repeated:
            with suppress(CommandError), open_farm(url) as farm:
                farm.post(f"/leases/{lease['id']}/release", {"note": "it could not be handed over"})
        raise
