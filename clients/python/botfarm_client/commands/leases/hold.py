from contextlib import suppress
from typing import Annotated

import typer

from botfarm_client.commands.leases.views import without_passwords
from botfarm_client.commands.shared.farm_access import open_farm
from botfarm_client.commands.shared.key_values import parse_wanted
from botfarm_client.commands.shared.lookups import user_id_of
from botfarm_client.commands.shared.options import (
    DEFAULT_URL,
    AsJson,
    MaybeEnv,
    MaybeProject,
    Owner,
    PoolDomain,
    Url,
    WantedLabelOptions,
    duration_option,
)
from botfarm_client.commands.shared.output import note as write_note
from botfarm_client.commands.shared.output import print_json, say
from botfarm_client.connection.api_calls import Json
from botfarm_client.connection.retrying import carry_out
from botfarm_client.errors import BotfarmError
from botfarm_client.leasing.acquiring import Acquiring
from botfarm_client.leasing.ci_variables import this_holder
from botfarm_client.shared.durations import format_duration, format_moment
from botfarm_client.shared.ids import is_id


def hold(
    user: Annotated[
        str | None,
        typer.Argument(metavar="[USER]", help="The id, or the login if only one has it; else any of a pool."),
    ] = None,
    *,
    note: Annotated[str, typer.Option("--note", help="Why, for people to read.")],
    project: MaybeProject = None,
    env: MaybeEnv = None,
    domain: PoolDomain = None,
    label: WantedLabelOptions = [],  # noqa: B006  typer makes a new list for each call
    ttl: Annotated[
        int | None, duration_option("--ttl", "How long to keep it; else as long as the project allows.")
    ] = None,
    owner: Owner = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Keep a user for a person, also a dirty or quarantined one, until `leases release` or its end."""
    pool = {"project": project, "env": env, "domain": domain, "labels": parse_wanted(label, option="--label")}
    if user is not None and any(pool.values()):
        raise typer.BadParameter("name a user, or the pool of any user; not both", param_hint="USER")
    if user is None and not (project and env):
        raise typer.BadParameter("name a user, or a pool by --project and --env", param_hint="USER")
    body: Json = {
        "purpose": "hold",
        "note": note,
        "ttl_seconds": ttl,
        "owner": owner or this_holder().owner,
    }
    if user is None:
        body |= pool
        if project and is_id(project):
            body["project_id"] = body.pop("project")
    lease = _take(body, user, url=url)
    if as_json:
        print_json(without_passwords(lease))
        return
    (held,) = lease["users"]
    left = format_duration(lease["expires_in"])
    say(
        f"{held['login']} is held until {format_moment(lease['expires_at'])}, for {left}: lease {lease['id']}"
    )
    say(f"  to see the password:  botfarm leases show {lease['id']}")
    say(f"  to give it back:      botfarm leases release {lease['id']}")
    if ttl and lease["ttl_seconds"] < ttl:
        write_note(f"the farm grants {format_duration(lease['ttl_seconds'])} of the {format_duration(ttl)}")


def _take(body: Json, user: str | None, *, url: str) -> Json:
    with open_farm(url) as farm:
        if user is not None:
            body = {**body, "user_id": user_id_of(farm, user)}
        acquiring = Acquiring(body, wait=0)
        try:
            lease: Json = carry_out(acquiring.steps(), farm).answer
        except BotfarmError:
            raise
        except BaseException:
            with suppress(BotfarmError):
                carry_out(acquiring.taking_back(), farm)
            raise
    return lease
