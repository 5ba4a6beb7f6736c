from pathlib import Path
from typing import Annotated, Any

import typer

from botfarm_client.commands.shared.credential_files import (
    SecretChangesFile,
    SecretsFile,
    TotpFile,
    read_credentials,
)
from botfarm_client.commands.shared.farm_access import open_farm
from botfarm_client.commands.shared.key_values import parse_changes, parse_pairs
from botfarm_client.commands.shared.lookups import project_id_of, project_names, user_id_of
from botfarm_client.commands.shared.options import (
    DEFAULT_LIMIT,
    DEFAULT_URL,
    All,
    AsJson,
    EnvOption,
    LabelOptions,
    Limit,
    MaybeDomain,
    MaybeEnv,
    MaybeProject,
    PoolDomain,
    ProjectOption,
    Url,
    UserArgument,
    Yes,
)
from botfarm_client.commands.shared.output import note_if_more, print_json, say
from botfarm_client.commands.shared.prompts import confirm
from botfarm_client.commands.users.bulk_command import bulk
from botfarm_client.commands.users.export_command import export_users
from botfarm_client.commands.users.history_command import history
from botfarm_client.commands.users.import_command import import_users
from botfarm_client.commands.users.options import Health, State
from botfarm_client.commands.users.status_commands import quarantine, restore, retire
from botfarm_client.commands.users.views import print_user, print_users

users = typer.Typer(no_args_is_help=True, help="The test accounts of the farm.")


@users.command("list")
def list_users(
    *,
    project: MaybeProject = None,
    env: MaybeEnv = None,
    domain: MaybeDomain = None,
    state: Annotated[State | None, typer.Option("--state")] = None,
    health: Annotated[Health | None, typer.Option("--health")] = None,
    login: Annotated[str | None, typer.Option("--login", help="This login, in any spelling.")] = None,
    search: Annotated[str | None, typer.Option("--search", help="A part of the login.")] = None,
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
            health=health,
            login=login,
            search=search,
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


users.command()(history)


@users.command()
def add(
    login: Annotated[str, typer.Argument(metavar="LOGIN", help="An e-mail address.")],
    *,
    project: ProjectOption,
    env: EnvOption,
    domain: PoolDomain = None,
    label: LabelOptions = [],  # noqa: B006
    secrets: SecretsFile = None,
    totp_file: TotpFile = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Add a user. The password is asked for, or read from standard input."""
    labels = parse_pairs(label, option="--label")
    credentials = read_credentials(password=True, secrets=secrets, totp_file=totp_file)
    with open_farm(url) as farm:
        project_id = project_id_of(farm, project)
        body = {
            "login": login,
            **credentials,
            "project_id": project_id,
            "env": env,
            "domain": domain or farm.get(f"/projects/{project_id}")["domains"][0],
            "labels": labels,
        }
        added = farm.post("/users", body)
        if as_json:
            print_json(added)
        else:
            print_user(added, farm)


users.command("import")(import_users)
users.command("export")(export_users)


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
    secrets: SecretChangesFile = None,
    no_secrets: Annotated[bool, typer.Option("--no-secrets", help="Remove all its secrets.")] = False,
    totp_file: TotpFile = None,
    no_totp: Annotated[
        bool, typer.Option("--no-totp", help="Remove the seed of its one-time codes.")
    ] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Change what is said of a user; the rest stays."""
    changes = _given(
        login=login,
        env=env,
        domain=domain,
        labels=parse_changes(label, option="--label") or None,
    )
    changes |= _removals(secrets=secrets, no_secrets=no_secrets, totp_file=totp_file, no_totp=no_totp)
    if not (changes or password or project or secrets or totp_file):
        raise typer.BadParameter("say what to change")
    changes |= read_credentials(password=password, secrets=secrets, totp_file=totp_file)
    with open_farm(url) as farm:
        if project:
            changes["project_id"] = project_id_of(farm, project)
        updated = farm.patch(f"/users/{user_id_of(farm, user)}", changes)
        if as_json:
            print_json(updated)
        else:
            print_user(updated, farm)


users.command()(quarantine)
users.command()(restore)
users.command()(retire)


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


users.command()(bulk)


def _given(**fields: object) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _removals(
    *, secrets: Path | None, no_secrets: bool, totp_file: Path | None, no_totp: bool
) -> dict[str, None]:
    if secrets and no_secrets:
        raise typer.BadParameter("give either --secrets or --no-secrets")
    if totp_file and no_totp:
        raise typer.BadParameter("give either --totp-file or --no-totp")
    return {
        name: None for name, is_removed in {"secrets": no_secrets, "totp_seed": no_totp}.items() if is_removed
    }
