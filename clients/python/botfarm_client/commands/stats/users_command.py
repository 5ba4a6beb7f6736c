"""How users were used, and how often they failed."""

from enum import StrEnum
from typing import Annotated

import typer

from botfarm_client.commands.shared.farm_access import open_farm
from botfarm_client.commands.shared.lookups import project_id_of, project_names
from botfarm_client.commands.shared.options import (
    DEFAULT_LIMIT,
    DEFAULT_URL,
    AsJson,
    Limit,
    MaybeDomain,
    MaybeEnv,
    MaybeProject,
    Url,
    moment_option,
)
from botfarm_client.commands.shared.output import Columns, print_json, print_table
from botfarm_client.shared.durations import format_duration, format_relative


class Sort(StrEnum):
    FAILURES = "failures"
    USES = "uses"
    BUSY = "busy"
    IDLE = "idle"


def users(
    *,
    project: MaybeProject = None,
    env: MaybeEnv = None,
    domain: MaybeDomain = None,
    since: Annotated[
        str | None, moment_option("--since", "A time, or 3d for three days ago. Default: 14d.")
    ] = None,
    sort: Annotated[
        Sort, typer.Option("--sort", help="The most first; idle: not used for longest.")
    ] = Sort.FAILURES,
    limit: Limit = DEFAULT_LIMIT,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Show how tests used each user, and how often it failed."""
    with open_farm(url) as farm:
        items = farm.items(
            "/stats/users",
            project_id=project_id_of(farm, project),
            env=env,
            domain=domain,
            since=since,
            sort=sort,
            limit=limit,
        )
        names = {} if as_json else project_names(farm)
    if as_json:
        print_json({"items": items})
        return
    columns: Columns = {
        "login": lambda user: user["login"],
        "project": lambda user: names.get(user["project_id"], user["project_id"]),
        "env": lambda user: user["env"],
        "domain": lambda user: user["domain"],
        "uses": lambda user: user["uses"],
        "failures": lambda user: user["failures"],
        "last reason": lambda user: user["last_reason"],
        "busy": lambda user: format_duration(user["busy_seconds"]),
        "last used": lambda user: format_relative(user["last_used"]) or "never",
        "quarantined": lambda user: format_duration(user["quarantined_seconds"]),
        "id": lambda user: user["id"],
    }
    print_table(columns, items)
