"""Changes a password in two phases, from the command of a chore."""

import os
from typing import Annotated
from uuid import UUID

import typer

from botfarm_client.commands.leases.views import user_without_passwords
from botfarm_client.commands.shared.farm_access import open_farm
from botfarm_client.commands.shared.options import DEFAULT_URL, AsJson, Url
from botfarm_client.commands.shared.output import print_json, say
from botfarm_client.commands.shared.prompts import read_password
from botfarm_client.masks.log_masks import write_masks

LeaseOption = Annotated[UUID, typer.Option("--lease", envvar="BOTFARM_LEASE_ID", metavar="LEASE_ID")]
UserOption = Annotated[UUID, typer.Option("--user", envvar="BOTFARM_USER_ID", metavar="USER_ID")]


def rotate(
    *,
    lease: LeaseOption,
    user: UserOption,
    password: Annotated[
        bool, typer.Option("--password", help="Ask for it, or read it from standard input; else a made one.")
    ] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Print a new password for the chore's user, which the farm keeps until `confirm`.

    No test gets the user in between. The same command again prints the same password.
    """
    body = {"password": read_password()} if password else {}
    with open_farm(url) as farm:
        rotation = farm.post(f"{_path(lease, user)}/rotation", body)
    login = os.environ.get("BOTFARM_LOGIN", "")
    write_masks([{"id": str(user), "login": login, "pending_password": rotation["pending_password"]}])
    if as_json:
        print_json(rotation)
    else:
        say(rotation["pending_password"])


def confirm(*, lease: LeaseOption, user: UserOption, as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """Say that the system has the new password: it is the user's from now on. Doing it twice is fine."""
    with open_farm(url) as farm:
        confirmed = farm.post(f"{_path(lease, user)}/rotation/confirm")
    write_masks([confirmed])
    if as_json:
        print_json(user_without_passwords(confirmed))
    else:
        say(f"{confirmed['login']} has its new password.")


def _path(lease: UUID, user: UUID) -> str:
    return f"/leases/{lease}/users/{user}"
