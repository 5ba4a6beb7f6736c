"""One change for many users."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from botfarm_client.commands.shared.farm_access import open_farm
from botfarm_client.commands.shared.key_values import parse_changes, parse_pairs
from botfarm_client.commands.shared.lookups import project_id_of
from botfarm_client.commands.shared.options import (
    DEFAULT_URL,
    AsJson,
    LabelOptions,
    MaybeDomain,
    MaybeEnv,
    MaybeProject,
    Url,
    Yes,
)
from botfarm_client.commands.shared.output import Columns, print_json, print_table, say
from botfarm_client.commands.shared.prompts import confirm
from botfarm_client.commands.users.options import Health, State

_FAILED: Columns = {
    "login": lambda each: each.get("login"),
    "id": lambda each: each["id"],
    "problem": lambda each: each["problem"],
}


class Action(StrEnum):
    QUARANTINE = "quarantine"
    RESTORE = "restore"
    RETIRE = "retire"
    DELETE = "delete"
    LABEL = "label"


def bulk(
    action: Annotated[Action, typer.Argument(metavar="ACTION", help=", ".join(Action))],
    *,
    project: MaybeProject = None,
    env: MaybeEnv = None,
    domain: MaybeDomain = None,
    state: Annotated[State | None, typer.Option("--state")] = None,
    health: Annotated[Health | None, typer.Option("--health")] = None,
    label: LabelOptions = [],  # noqa: B006  typer makes a new list for each call
    everything: Annotated[bool, typer.Option("--all", help="All users, where no filter is given.")] = False,
    reason: Annotated[str | None, typer.Option("--reason", help="Of a quarantine or a retirement.")] = None,
    set_label: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="Of `label`. Repeatable; KEY= removes it.")
    ] = [],  # noqa: B006
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Change all users that match, at most 10,000; says which could not be changed."""
    if not (everything or project or env or domain or state or health or label):
        raise typer.BadParameter("say which users, by a filter or by --all")
    body: dict[str, Any] = {"action": action, "dry_run": dry_run}
    if reason is not None:
        body["reason"] = reason
    if set_label:
        body["labels"] = parse_changes(set_label, option="--set")
    with open_farm(url) as farm:
        chosen = {
            "project_id": project_id_of(farm, project),
            "env": env,
            "domain": domain,
            "state": state,
            "health": health,
            "labels": parse_pairs(label, option="--label") or None,
            "all": everything or None,
        }
        body["filter"] = {name: value for name, value in chosen.items() if value is not None}
        if not dry_run:
            matched = farm.post("/users/bulk", {**body, "dry_run": True})["matched"]
            confirm(f"{action.capitalize()} {matched} users?", yes=yes)
        result = farm.post("/users/bulk", body)
    if as_json:
        print_json(result)
        return
    would = "would be " if dry_run else ""
    say(f"{result['matched']} users match, {result['done']} {would}changed, {len(result['failed'])} not.")
    if result.get("replaced"):  # a farm of the version before does not say
        say(f"Of those, {result['replaced']} had another reason, which {would or 'is '}replaced.")
    if result["failed"]:
        print_table(_FAILED, result["failed"])
