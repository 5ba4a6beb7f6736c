from typing import Annotated

import typer

from botfarm_client.commands.shared.farm_access import open_farm
from botfarm_client.commands.shared.key_values import format_pairs
from botfarm_client.commands.shared.lookups import project_id_of, project_names
from botfarm_client.commands.shared.options import (
    DEFAULT_LIMIT,
    DEFAULT_URL,
    All,
    AsJson,
    Limit,
    MaybeProject,
    Url,
    moment_option,
)
from botfarm_client.commands.shared.output import Columns, note_if_more, print_json, print_table
from botfarm_client.shared.durations import format_utc


def audit(
    *,
    principal: Annotated[
        str | None, typer.Option("--principal", help="Who did it: token:NAME:ID or operator:NAME.")
    ] = None,
    action: Annotated[
        str | None, typer.Option("--action", help="An operation of the API, such as acquire_lease.")
    ] = None,
    project: MaybeProject = None,
    target: Annotated[
        str | None, typer.Option("--target", metavar="ID", help="What it was done to, by its id.")
    ] = None,
    since: Annotated[str | None, moment_option("--since", "A time, or 2h for two hours ago.")] = None,
    until: Annotated[str | None, moment_option("--until", "The same.")] = None,
    limit: Limit = DEFAULT_LIMIT,
    everything: All = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Show who did what, the newest first; all filters must match."""
    with open_farm(url) as farm:
        items, more = farm.pages(
            "/audit",
            limit=None if everything else limit,
            principal=principal,
            action=action,
            project_id=project_id_of(farm, project),
            target_id=target,
            since=since,
            until=until,
        )
        names = {} if as_json else project_names(farm)
    if as_json:
        print_json({"items": items})
    else:
        columns: Columns = {
            "time (utc)": lambda entry: format_utc(entry["at"]),
            "principal": lambda entry: entry["principal"],
            "from": lambda entry: entry["address"],
            "action": lambda entry: entry["action"],
            "project": lambda entry: names.get(entry["project_id"], entry["project_id"]),
            "env": lambda entry: entry["env"],
            "details": lambda entry: format_pairs(entry["details"]),
            "target": lambda entry: entry["target"],
            "id": lambda entry: entry["target_id"],
        }
        print_table(columns, items)
    note_if_more(more=more, shown=len(items))
