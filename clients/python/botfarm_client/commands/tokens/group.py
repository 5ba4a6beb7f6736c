from enum import StrEnum
from typing import Annotated

import typer

from botfarm_client.commands.shared.farm_access import open_farm
from botfarm_client.commands.shared.lookups import project_names, token_of
from botfarm_client.commands.shared.options import DEFAULT_URL, AsJson, Url, Yes, duration_option
from botfarm_client.commands.shared.output import note, print_json, say
from botfarm_client.commands.shared.prompts import confirm
from botfarm_client.commands.tokens.views import print_tokens

ALL = "*"

tokens = typer.Typer(no_args_is_help=True, help="What machines sign in with, and what each may do.")


class Role(StrEnum):
    VIEWER = "viewer"
    RUNNER = "runner"
    KEEPER = "keeper"
    MANAGER = "manager"
    ADMIN = "admin"


@tokens.command("list")
def list_tokens(
    *,
    created_by: Annotated[
        str | None, typer.Option("--created-by", help="Who made them: token:NAME:ID or operator:NAME.")
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """List the tokens, without their secrets."""
    with open_farm(url) as farm:
        items = farm.items("/tokens", created_by=created_by)
        names = {} if as_json else project_names(farm)
    if as_json:
        print_json({"items": items})
    else:
        print_tokens(items, names)


@tokens.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="For those who look at leases and the audit.")],
    *,
    role: Annotated[Role, typer.Option("--role", help="Each may do what those before it may.")],
    project: Annotated[
        list[str],
        typer.Option("--project", metavar="PROJECT", help="Its name or id; '*' for all. Repeatable."),
    ],
    env: Annotated[
        list[str], typer.Option("--env", metavar="ENV", help="Its name; '*' for all. Repeatable.")
    ],
    max_leases: Annotated[
        int | None, typer.Option("--max-leases", min=1, help="How many users it may hold at the same time.")
    ] = None,
    expires_in: Annotated[
        int | None, duration_option("--expires-in", "How long it is valid, such as 90d; else until revoked.")
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Create a token and print it, alone and this once: the farm cannot show it again."""
    body = {
        "name": name,
        "role": role,
        "projects": _all_or_some(project, option="--project"),
        "envs": _all_or_some(env, option="--env"),
        **({} if max_leases is None else {"max_leases": max_leases}),
        **({} if expires_in is None else {"expires_in": expires_in}),
    }
    with open_farm(url) as farm:
        created = farm.post("/tokens", body)
    # Printed first, so that the id is known even if the token cannot be printed.
    note(
        f"token {created['name']} with the id {created['id']} is shown this once: "
        f"keep it as you keep passwords; `botfarm tokens revoke {created['id']}` ends it"
    )
    if as_json:
        print_json(created)
    else:
        say(created["token"])


@tokens.command()
def revoke(
    token: Annotated[
        str,
        typer.Argument(metavar="TOKEN_ID|NAME", help="The id, or the name if only one live token has it."),
    ],
    *,
    yes: Yes = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """End a token now and for good. Doing it twice is fine."""
    with open_farm(url) as farm:
        found = token_of(farm, token)
        if found["revoked_at"] is None:
            confirm(f"Revoke the {found['role']} token {found['name']} with the id {found['id']}?", yes=yes)
            farm.delete(f"/tokens/{found['id']}")
    if as_json:
        print_json({"id": found["id"], "revoked": True})
    else:
        say(f"Revoked the token {found['name']} with the id {found['id']}.")


def _all_or_some(given: list[str], *, option: str) -> list[str]:
    names = list(dict.fromkeys(given))
    if ALL in names and len(names) > 1:
        raise typer.BadParameter("'*' is all of them: give it alone", param_hint=option)
    return names
