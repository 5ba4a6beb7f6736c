from enum import StrEnum
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
    no_args_is_help=True,
    help="The systems under test, their envs and domains, and how long their users may be held.",
)


class Cleaning(StrEnum):
    OFF = "off"
    ON_DIRTY = "on_dirty"
    REQUIRED = "required"


class Logins(StrEnum):
    EMAIL = "email"
    ANY = "any"


Name = Annotated[str, typer.Argument(metavar="NAME", help="Letters, digits, dot, dash and underscore.")]
Envs = Annotated[
    list[str],
    typer.Option(
        "--env", metavar="ENV", help="Repeat it for each of its envs: prod, preprod and stage by default."
    ),
]
Domains = Annotated[
    list[str],
    typer.Option(
        "--domain",
        metavar="DOMAIN",
        help="Repeat it for each of its domains, the default one first: regular and canary by default.",
    ),
]
ChangedEnvs = Annotated[
    list[str],
    typer.Option("--env", metavar="ENV", help="Repeat it for all of its envs: they replace those it has."),
]
ChangedDomains = Annotated[
    list[str],
    typer.Option(
        "--domain",
        metavar="DOMAIN",
        help="Repeat it for all of its domains, the default one first: they replace those it has.",
    ),
]
DefaultTtl = Annotated[int | None, duration_option("--default-ttl", "How long a lease is, if not said.")]
MaxTtl = Annotated[int | None, duration_option("--max-ttl", "How long a lease may be.")]
MaxHold = Annotated[int | None, duration_option("--max-hold", "How long a lease may be held by renewing it.")]
LockDelay = Annotated[
    int | None, duration_option("--lock-delay", "How long a user rests after its lease has expired.")
]
Cooldown = Annotated[int | None, duration_option("--cooldown", "How long a user rests after a release.")]
LoginGap = Annotated[
    int | None, duration_option("--login-gap", "The least time between two grants of one user.")
]
QuarantineAfter = Annotated[
    int | None, typer.Option("--quarantine-after", min=0, help="Failures in a row; 0: never.")
]
QuarantineShare = Annotated[
    float | None,
    typer.Option("--quarantine-share", min=0, max=1, help="Of a pool, within an hour, by policy."),
]
CountExpired = Annotated[
    bool | None,
    typer.Option("--count-expired/--no-count-expired", help="Whether an expired lease is a failure."),
]
CleaningOption = Annotated[
    Cleaning | None, typer.Option("--cleaning", help="When a user waits for a keeper after a test.")
]
CleanAttempts = Annotated[
    int | None, typer.Option("--clean-attempts", min=1, help="Chores in a row that may fail.")
]
CheckEvery = Annotated[
    int | None, duration_option("--check-every", "How often a keeper checks a user; 0: never.")
]
RotateEvery = Annotated[
    int | None, duration_option("--rotate-every", "How often a keeper changes a password; 0: never.")
]
RotateOnRelease = Annotated[
    bool | None,
    typer.Option("--rotate-on-release/--no-rotate-on-release", help="Change the password after every test."),
]
SessionRefresh = Annotated[
    int | None,
    duration_option("--session-refresh", "How long before its end a session is refreshed; 0: never."),
]

LoginsOption = Annotated[
    Logins | None,
    typer.Option("--logins", help="New logins: e-mail addresses, or any text, such as phone numbers."),
]


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
    env: Envs = [],  # noqa: B006  typer makes a new list for each call
    domain: Domains = [],  # noqa: B006
    default_ttl: DefaultTtl = None,
    max_ttl: MaxTtl = None,
    max_hold: MaxHold = None,
    lock_delay: LockDelay = None,
    cooldown: Cooldown = None,
    login_gap: LoginGap = None,
    quarantine_after: QuarantineAfter = None,
    quarantine_share: QuarantineShare = None,
    count_expired: CountExpired = None,
    cleaning: CleaningOption = None,
    clean_attempts: CleanAttempts = None,
    check_every: CheckEvery = None,
    rotate_every: RotateEvery = None,
    rotate_on_release: RotateOnRelease = None,
    session_refresh: SessionRefresh = None,
    logins: LoginsOption = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Add a project."""
    given = _given(
        envs=env or None,
        domains=domain or None,
        default_ttl=default_ttl,
        max_ttl=max_ttl,
        max_hold=max_hold,
        lock_delay=lock_delay,
        cooldown=cooldown,
        login_gap=login_gap,
        quarantine_after=quarantine_after,
        quarantine_share=quarantine_share,
        count_expired=count_expired,
        cleaning=cleaning,
        clean_attempts=clean_attempts,
        check_every=check_every,
        rotate_every=rotate_every,
        rotate_on_release=rotate_on_release,
        session_refresh=session_refresh,
        logins=logins,
    )
    with open_farm(url) as farm:
        _print(farm.post("/projects", {"name": name, **given}), as_json=as_json)


@projects.command()
def update(
    project: ProjectArgument,
    *,
    name: Annotated[str | None, typer.Option("--name", help="Its new name.")] = None,
    env: ChangedEnvs = [],  # noqa: B006
    domain: ChangedDomains = [],  # noqa: B006
    default_ttl: DefaultTtl = None,
    max_ttl: MaxTtl = None,
    max_hold: MaxHold = None,
    lock_delay: LockDelay = None,
    cooldown: Cooldown = None,
    login_gap: LoginGap = None,
    quarantine_after: QuarantineAfter = None,
    quarantine_share: QuarantineShare = None,
    count_expired: CountExpired = None,
    cleaning: CleaningOption = None,
    clean_attempts: CleanAttempts = None,
    check_every: CheckEvery = None,
    rotate_every: RotateEvery = None,
    rotate_on_release: RotateOnRelease = None,
    session_refresh: SessionRefresh = None,
    logins: LoginsOption = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Change what is said of a project; the rest stays."""
    changes = _given(
        name=name,
        envs=env or None,
        domains=domain or None,
        default_ttl=default_ttl,
        max_ttl=max_ttl,
        max_hold=max_hold,
        lock_delay=lock_delay,
        cooldown=cooldown,
        login_gap=login_gap,
        quarantine_after=quarantine_after,
        quarantine_share=quarantine_share,
        count_expired=count_expired,
        cleaning=cleaning,
        clean_attempts=clean_attempts,
        check_every=check_every,
        rotate_every=rotate_every,
        rotate_on_release=rotate_on_release,
        session_refresh=session_refresh,
        logins=logins,
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
        columns = {name: cell(project) for name, cell in _COLUMNS.items()}
        logins = {"logins": project["logins"]}
        print_fields(columns | logins | _health(project) | {"created": format_moment(project["created_at"])})


def _health(project: dict[str, Any]) -> dict[str, object]:
    """The policy on the health of users, without what is off."""
    after, share = project["quarantine_after"], round(100 * project["quarantine_share"])
    return {
        "login gap": _period(project["login_gap"]),
        "quarantine": f"after {after} failures, at most {share} % in an hour" if after else "by hand alone",
        "count expired": "yes" if project["count_expired"] else None,
        "cleaning": f"{project['cleaning']}, {project['clean_attempts']} attempts",
        "check every": _period(project["check_every"]),
        "rotate every": _period(project["rotate_every"]),
        "rotate": "on release" if project["rotate_on_release"] else None,
        "session refresh": _period(project["session_refresh"]),
    }


def _period(seconds: int) -> str | None:
    return format_duration(seconds) if seconds else None


_COLUMNS: Columns = {
    "name": lambda project: project["name"],
    "envs": lambda project: ", ".join(project["envs"]),
    "domains": lambda project: ", ".join(project["domains"]),
    "default ttl": lambda project: format_duration(project["default_ttl"]),
    "max ttl": lambda project: format_duration(project["max_ttl"]),
    "max hold": lambda project: format_duration(project["max_hold"]),
    "lock delay": lambda project: format_duration(project["lock_delay"]),
    "cooldown": lambda project: format_duration(project["cooldown"]),
    "id": lambda project: project["id"],
}
