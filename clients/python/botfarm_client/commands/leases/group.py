from enum import StrEnum
from typing import Annotated, Any

import typer

from botfarm_client.commands.leases.acquire import acquire
from botfarm_client.commands.leases.credentials import totp, write_back
from botfarm_client.commands.leases.github_actions import say_masks
from botfarm_client.commands.leases.hold import hold
from botfarm_client.commands.leases.views import print_lease, print_leases, without_passwords
from botfarm_client.commands.leases.waiting import waiting
from botfarm_client.commands.shared.farm_access import open_farm
from botfarm_client.commands.shared.lookups import project_id_of, project_names, user_id_of
from botfarm_client.commands.shared.options import (
    DEFAULT_LIMIT,
    DEFAULT_URL,
    All,
    AsJson,
    LeaseArgument,
    Limit,
    MaybeDomain,
    MaybeEnv,
    MaybeProject,
    Url,
    duration_option,
)
from botfarm_client.commands.shared.output import note_if_more, print_json, say
from botfarm_client.masks.log_masks import in_github_actions, write_masks
from botfarm_client.shared.durations import format_duration

leases = typer.Typer(no_args_is_help=True, help="Who holds which users, and until when.")


class State(StrEnum):
    ACTIVE = "active"
    ENDED = "ended"


class Outcome(StrEnum):
    OK = "ok"
    DIRTY = "dirty"
    BROKEN = "broken"


class Reason(StrEnum):
    CREDENTIAL_REJECTED = "credential_rejected"
    LOCKED_OUT = "locked_out"
    CAPTCHA = "captcha"
    MFA = "mfa"
    DATA = "data"
    RATE_LIMITED = "rate_limited"
    ENVIRONMENT = "environment"
    OTHER = "other"


@leases.command("list")
def list_leases(
    *,
    state: Annotated[State | None, typer.Option("--state")] = None,
    project: MaybeProject = None,
    env: MaybeEnv = None,
    domain: MaybeDomain = None,
    user: Annotated[
        str | None, typer.Option("--user", metavar="USER", help="The id, or the login if only one has it.")
    ] = None,
    owner: Annotated[str | None, typer.Option("--owner")] = None,
    principal: Annotated[
        str | None, typer.Option("--principal", help="Who took it: token:NAME:ID or operator:NAME.")
    ] = None,
    limit: Limit = DEFAULT_LIMIT,
    everything: All = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """List leases, the newest first; all filters must match."""
    with open_farm(url) as farm:
        items, more = farm.pages(
            "/leases",
            limit=None if everything else limit,
            state=state,
            project_id=project_id_of(farm, project),
            env=env,
            domain=domain,
            user_id=None if user is None else user_id_of(farm, user),
            owner=owner,
            principal=principal,
        )
        names = {} if as_json else project_names(farm)
    if as_json:
        print_json({"items": [without_passwords(lease) for lease in items]})
    else:
        print_leases(items, names)
    note_if_more(more=more, shown=len(items))


leases.command()(waiting)


@leases.command()
def show(lease_id: LeaseArgument, *, as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """Show one lease; to its holder with the credentials, while it lives."""
    with open_farm(url) as farm:
        lease = farm.get(f"/leases/{lease_id}")
        names = {} if as_json else project_names(farm)
    if as_json:
        write_masks(lease["users"])
        print_json(lease)
    else:
        if in_github_actions():
            say_masks(lease["users"])
        project_id = str(lease["project_id"])
        print_lease(lease, project=names.get(project_id, project_id))


leases.command()(acquire)
leases.command()(hold)
leases.command()(totp)
leases.command("write-back")(write_back)


@leases.command()
def renew(
    lease_id: LeaseArgument,
    *,
    ttl: Annotated[int | None, duration_option("--ttl", "From now on; else as long as at first.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Hold a lease for longer."""
    with open_farm(url) as farm:
        lease = farm.post(f"/leases/{lease_id}/renew", {} if ttl is None else {"ttl_seconds": ttl})
    left = format_duration(lease["expires_in"])
    _print_done(lease, f"The lease ends in {left}.", as_json=as_json)


@leases.command()
def release(
    lease_id: LeaseArgument,
    *,
    outcome: Annotated[
        Outcome, typer.Option("--outcome", help="How its users are left: ok, dirty or broken.")
    ] = Outcome.OK,
    reason: Annotated[Reason | None, typer.Option("--reason", help="Why they are not ok.")] = None,
    note: Annotated[str | None, typer.Option("--note", help="More, for those who mend them.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Give the users of a lease back. Doing it twice is fine."""
    said = {"outcome": outcome, "reason": reason, "note": note}
    body = {name: value for name, value in said.items() if value is not None}
    with open_farm(url) as farm:
        lease = farm.post(f"/leases/{lease_id}/release", body)
    _print_done(lease, f"Released {_logins(lease)}.", as_json=as_json)


@leases.command("force-release")
def force_release(
    lease_id: LeaseArgument,
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why: it is kept with the lease.")],
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """End anybody's lease; what has ended already stays as it is."""
    with open_farm(url) as farm:
        lease = farm.post(f"/leases/{lease_id}/force_release", {"reason": reason})
    _print_done(lease, f"{_logins(lease)}: {lease['ended_by']}.", as_json=as_json)


def _print_done(lease: dict[str, Any], line: str, *, as_json: bool) -> None:
    if as_json:
        print_json(without_passwords(lease))
    else:
        say(line)


def _logins(lease: dict[str, Any]) -> str:
    return ", ".join(user["login"] for user in lease["users"]) or "a user that was deleted"
