from enum import StrEnum
from typing import Annotated, Any

import typer

from botfarm_client.farm_access import open_farm
from botfarm_client.lookups import project_id_of, project_names, user_id_of
from botfarm_client.options import (
    DEFAULT_LIMIT,
    DEFAULT_URL,
    All,
    AsJson,
    Domain,
    DomainOption,
    EnvOption,
    LabelOptions,
    Limit,
    MaybeDomain,
    MaybeEnv,
    MaybeProject,
    ProjectOption,
    Url,
    UserArgument,
    Yes,
)
from botfarm_client.output import note_if_more, print_json, say
from botfarm_client.pairs import parse_changes, parse_pairs
from botfarm_client.prompts import confirm, read_password
from botfarm_client.user_views import print_user, print_users
from botfarm_client.users_import_command import import_users

users = typer.Typer(no_args_is_help=True, help="The test accounts of the farm.")


class State(StrEnum):
    FREE = "free"
    LEASED = "leased"
    RESTING = "resting"
    QUARANTINED = "quarantined"


@users.command("list")
def list_users(
    *,
    project: MaybeProject = None,
    env: MaybeEnv = None,
    domain: MaybeDomain = None,
    state: Annotated[State | None, typer.Option("--state")] = None,
    login: Annotated[str | None, typer.Option("--login", help="This login, in any case.")] = None,
    label: LabelOptions = [],  # noqa: B006  typer makes a new list for each call
    limit: Limit = DEFAULT_LIMIT,
    everything: All = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """List users, without their passwords; all filters must match."""
    labels = [f"{key}:{value}" for key, value in parse_pairs(label, option="--label").items()]
    with open_farm(url) as farm:
        items, more = farm.pages(
            "/users",
            limit=None if everything else limit,
            project_id=project_id_of(farm, project),
            env=env,
            domain=domain,
            state=state,
            login=login,
            label=labels or None,
        )
        names = {} if as_json else project_names(farm)
    if as_json:
        print_json({"items": items})
    else:
        print_users(items, names)
    note_if_more(more=more, shown=len(items))


@users.command()
def show(user: UserArgument, *, as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """Show one user, and who used it last."""
    with open_farm(url) as farm:
        found = farm.get(f"/users/{user_id_of(farm, user)}")
        if as_json:
            print_json(found)
        else:
            print_user(found, farm)


@users.command()
def add(
    login: Annotated[str, typer.Argument(metavar="LOGIN", help="An e-mail address.")],
    *,
    project: ProjectOption,
    env: EnvOption,
    domain: DomainOption = Domain.REGULAR,
    label: LabelOptions = [],  # noqa: B006
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Add a user. The password is asked for, or read from standard input."""
    labels = parse_pairs(label, option="--label")
    password = read_password()
    with open_farm(url) as farm:
        body = {
            "login": login,
            "password": password,
            "project_id": project_id_of(farm, project),
            "env": env,
            "domain": domain,
            "labels": labels,
        }
        added = farm.post("/users", body)
        if as_json:
            print_json(added)
        else:
            print_user(added, farm)


users.command("import")(import_users)


@users.command()
def update(
    user: UserArgument,
    *,
    login: Annotated[str | None, typer.Option("--login", help="Its new login.")] = None,
    password: Annotated[
        bool, typer.Option("--password", help="Ask for a new password, or read it from standard input.")
    ] = False,
    project: MaybeProject = None,
    env: MaybeEnv = None,
    domain: MaybeDomain = None,
    label: Annotated[
        list[str], typer.Option("--label", metavar="KEY=VALUE", help="Repeatable; KEY= removes it.")
    ] = [],  # noqa: B006
    quarantine: Annotated[
        str | None, typer.Option("--quarantine", metavar="REASON", help="Take it out of service.")
    ] = None,
    activate: Annotated[bool, typer.Option("--activate", help="Take it into service again.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Change what is said of a user; the rest stays."""
    changes = _given(
        login=login,
        env=env,
        domain=domain,
        labels=parse_changes(label, option="--label") or None,
        **_status(quarantine=quarantine, activate=activate),
    )
    if not (changes or password or project):
        raise typer.BadParameter("say what to change")
    if password:
        changes["password"] = read_password()
    with open_farm(url) as farm:
        if project:
            changes["project_id"] = project_id_of(farm, project)
        updated = farm.patch(f"/users/{user_id_of(farm, user)}", changes)
        if as_json:
            print_json(updated)
        else:
            print_user(updated, farm)


@users.command()
def delete(user: UserArgument, *, yes: Yes = False, as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """Delete a user that nobody holds."""
    with open_farm(url) as farm:
        found = farm.get(f"/users/{user_id_of(farm, user)}")
        confirm(f"Delete the {found['env']} user {found['login']}?", yes=yes)
        farm.delete(f"/users/{found['id']}")
    if as_json:
        print_json({"id": found["id"], "deleted": True})
    else:
        say(f"Deleted the {found['env']} user {found['login']}.")


def _given(**fields: object) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _status(*, quarantine: str | None, activate: bool) -> dict[str, str]:
    if quarantine is not None and activate:
        raise typer.BadParameter("give either --quarantine or --activate")
    if quarantine is not None:
        return {"status": "quarantined", "status_reason": quarantine}
    return {"status": "active"} if activate else {}
