"""Takes a user out of service, puts it back, or retires it."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from botfarm_client.commands.shared.farm_access import open_farm
from botfarm_client.commands.shared.lookups import user_id_of
from botfarm_client.commands.shared.options import (
    DEFAULT_URL,
    AsJson,
    Url,
    UserArgument,
    Yes,
    duration_option,
)
from botfarm_client.commands.shared.output import print_json
from botfarm_client.commands.shared.prompts import confirm
from botfarm_client.commands.users.views import print_user

Reason = Annotated[str, typer.Option("--reason", help="Why, for people to read.")]


def quarantine(
    user: UserArgument,
    *,
    reason: Reason,
    seconds: Annotated[
        int | None, duration_option("--for", "It ends by itself then; else when the user is restored.")
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Take a user out of service; a leased one from its release on."""
    body: dict[str, Any] = {"reason": reason}
    if seconds is not None:
        body["until"] = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
    _change(user, "quarantine", body, as_json=as_json, url=url)


def restore(
    user: UserArgument,
    *,
    note: Annotated[str | None, typer.Option("--note", help="What was done, for the audit.")] = None,
    clean: Annotated[
        bool | None,
        typer.Option(
            "--clean/--no-clean", help="Whether a keeper comes first; else as the project's policy says."
        ),
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Put a quarantined or dirty user back into service."""
    _change(user, "restore", {"note": note, "clean": clean}, as_json=as_json, url=url)


def retire(
    user: UserArgument, *, reason: Reason, yes: Yes = False, as_json: AsJson = False, url: Url = DEFAULT_URL
) -> None:
    """Take a user out of service for good; its history stays."""
    confirm(f"Retire the user {user}, for good?", yes=yes)
    _change(user, "retire", {"reason": reason}, as_json=as_json, url=url)


def _change(user: str, verb: str, body: dict[str, Any], *, as_json: bool, url: str) -> None:
    with open_farm(url) as farm:
        changed = farm.post(f"/users/{user_id_of(farm, user)}/{verb}", body)
        if as_json:
            print_json(changed)
        else:
            print_user(changed, farm)
