import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated
from uuid import uuid4

import typer

from botfarm_client.acquiring import Acquiring
from botfarm_client.calls import Json
from botfarm_client.command_errors import CommandError
from botfarm_client.durations import format_duration
from botfarm_client.errors import BotfarmError, LostAnswerError
from botfarm_client.explanations import explain
from botfarm_client.farm_access import open_farm
from botfarm_client.ids import is_id
from botfarm_client.lease_views import print_lease
from botfarm_client.options import (
    DEFAULT_URL,
    AsJson,
    Domain,
    DomainOption,
    EnvOption,
    LabelOptions,
    ProjectOption,
    Url,
    duration_option,
)
from botfarm_client.output import print_json
from botfarm_client.pairs import parse_pairs
from botfarm_client.retrying import carry_out


def acquire(
    *,
    project: ProjectOption,
    env: EnvOption,
    domain: DomainOption = Domain.REGULAR,
    label: LabelOptions = [],  # noqa: B006  typer makes a new list for each call
    count: Annotated[int, typer.Option("--count", min=1, max=100, help="All of them or none.")] = 1,
    ttl: Annotated[
        int | None, duration_option("--ttl", "How long to have them; else as the project says.")
    ] = None,
    wait: Annotated[
        int | None, duration_option("--wait", "How long to wait until enough are free; else not at all.")
    ] = None,
    owner: Annotated[str | None, typer.Option("--owner", help="Who you are, for those who look.")] = None,
    metadata: Annotated[
        list[str], typer.Option("--metadata", metavar="KEY=VALUE", help="Kept with the lease. Repeatable.")
    ] = [],  # noqa: B006
    idempotency_key: Annotated[
        str | None,
        typer.Option("--idempotency-key", metavar="KEY", help="The same key gets the same live lease."),
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Take users and print them with their credentials. They are yours until the lease ends."""
    body: Json = {
        "project_id" if is_id(project) else "project": project,
        "env": env,
        "domain": domain,
        "labels": parse_pairs(label, option="--label"),
        "count": count,
        "ttl_seconds": ttl,
        "owner": owner,
        "metadata": parse_pairs(metadata, option="--metadata"),
    }
    lease = _take(body, key=idempotency_key or str(uuid4()), wait=wait or 0, url=url)
    if as_json:
        print_json(lease)
    else:
        print_lease(lease, project=project)


def _take(body: Json, *, key: str, wait: int, url: str) -> Json:
    with open_farm(url) as farm, _waiting(wait):
        try:
            return carry_out(Acquiring(body, wait=wait, keys=[key]).steps(), farm).answer
        except LostAnswerError as lost:
            cause = explain(lost.__cause__ if isinstance(lost.__cause__, BotfarmError) else lost, url)
            raise CommandError(
                f"{cause}; users may have been taken: the same command with --idempotency-key {key} gets them",
                exit_code=cause.exit_code,
            ) from None


@contextmanager
def _waiting(seconds: int) -> Iterator[None]:
    """Something moves where somebody looks."""
    if not seconds or sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console  # noqa: PLC0415  only where somebody looks

    with Console(stderr=True).status(f"Waiting, {format_duration(seconds)} at most; Ctrl-C gives up"):
        yield
