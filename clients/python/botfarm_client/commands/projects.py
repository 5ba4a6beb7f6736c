from typing import TYPE_CHECKING, Annotated, Any

import typer

from botfarm_client.commands.shared.farm_access import open_farm
from botfarm_client.commands.shared.lookups import project_id_of
from botfarm_client.commands.shared.options import (
    DEFAULT_URL,
    AsJson,
    ProjectArgument,
    Url,
    Yes,
    duration_option,
)
from botfarm_client.commands.shared.output import Columns, print_fields, print_json, print_table, say
from botfarm_client.commands.shared.prompts import confirm
from botfarm_client.shared.durations import format_duration, format_moment

if TYPE_CHECKING:
    from botfarm_client.connection.connection import Connection

projects = typer.Typer(
    no_args_is_help=True, help="The systems under test, and how long their users may be held."
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Letters, digits, dot, dash and underscore.")]
DefaultTtl = Annotated[int | None, duration_option("--default-ttl", "How long a lease is, if not said.")]
MaxTtl = Annotated[int | None, duration_option("--max-ttl", "How long a lease may be.")]
MaxHold = Annotated[int | None, duration_option("--max-hold", "How long a lease may be held by renewing it.")]
LockDelay = Annotated[
    int | None, duration_option("--lock-delay", "How long a user rests after its lease has expired.")
]
Cooldown = Annotated[int | None, duration_option("--cooldown", "How long a user rests after a release.")]


@projects.command("list")
def list_projects(*, as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """List the projects."""
    with open_farm(url) as farm:
        items = farm.items("/projects")
    if as_json:
        print_json({"items": items})
    else:
        print_table(_COLUMNS, items)


@projects.command()
def show(project: ProjectArgument, *, as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """Show one project."""
    with open_farm(url) as farm:
        _print(_get(farm, project), as_json=as_json)


@projects.command()
def add(
    name: Name,
    *,
    default_ttl: DefaultTtl = None,
    max_ttl: MaxTtl = None,
    max_hold: MaxHold = None,
    lock_delay: LockDelay = None,
    cooldown: Cooldown = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Add a project."""
    policy = _given(
        default_ttl=default_ttl, max_ttl=max_ttl, max_hold=max_hold, lock_delay=lock_delay, cooldown=cooldown
    )
    with open_farm(url) as farm:
        _print(farm.post("/projects", {"name": name, **policy}), as_json=as_json)


@projects.command()
def update(
    project: ProjectArgument,
    *,
    name: Annotated[str | None, typer.Option("--name", help="Its new name.")] = None,
    default_ttl: DefaultTtl = None,
    max_ttl: MaxTtl = None,
    max_hold: MaxHold = None,
    lock_delay: LockDelay = None,
    cooldown: Cooldown = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Change what is said of a project; the rest stays."""
    changes = _given(
        name=name,
        default_ttl=default_ttl,
        max_ttl=max_ttl,
        max_hold=max_hold,
        lock_delay=lock_delay,
        cooldown=cooldown,
    )
    if not changes:
        raise typer.BadParameter("say what to change")
    with open_farm(url) as farm:
        _print(farm.patch(f"/projects/{project_id_of(farm, project)}", changes), as_json=as_json)


@projects.command()
def delete(
    project: ProjectArgument, *, yes: Yes = False, as_json: AsJson = False, url: Url = DEFAULT_URL
) -> None:
    """Delete a project that has no users."""
    with open_farm(url) as farm:
        found = _get(farm, project)
        confirm(f"Delete the project {found['name']}?", yes=yes)
        farm.delete(f"/projects/{found['id']}")
    if as_json:
        print_json({"id": found["id"], "deleted": True})
    else:
        say(f"Deleted the project {found['name']}.")


def _get(farm: "Connection", project: str) -> dict[str, Any]:
    return farm.get(f"/projects/{project_id_of(farm, project)}")


def _given(**fields: object) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _print(project: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(project)
    else:
        created = {"created": format_moment(project["created_at"])}
        print_fields({name: cell(project) for name, cell in _COLUMNS.items()} | created)


_COLUMNS: Columns = {
    "name": lambda project: project["name"],
    "default ttl": lambda project: format_duration(project["default_ttl"]),
    "max ttl": lambda project: format_duration(project["max_ttl"]),
    "max hold": lambda project: format_duration(project["max_hold"]),
    "lock delay": lambda project: format_duration(project["lock_delay"]),
    "cooldown": lambda project: format_duration(project["cooldown"]),
    "id": lambda project: project["id"],
}
