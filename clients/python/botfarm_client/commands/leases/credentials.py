from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from botfarm_client.commands.leases.views import user_without_passwords
from botfarm_client.commands.shared.command_errors import CommandError, ExitCode
from botfarm_client.commands.shared.credential_files import SecretChangesFile, read_credentials
from botfarm_client.commands.shared.farm_access import open_farm
from botfarm_client.commands.shared.options import DEFAULT_URL, AsJson, LeaseArgument, Url, duration_option
from botfarm_client.commands.shared.output import print_json, say
from botfarm_client.connection.api_calls import LONGEST_CODE_WAIT, LONGEST_GOOD_FOR, Call, Json
from botfarm_client.masks.log_masks import write_masks
from botfarm_client.shared.ids import is_id

if TYPE_CHECKING:
    from botfarm_client.connection.connection import Connection

LeasedUserArgument = Annotated[
    str | None, typer.Argument(metavar="USER", help="Its login or id, if the lease has several.")
]


def totp(
    lease_id: LeaseArgument,
    user: LeasedUserArgument = None,
    *,
    good_for: Annotated[
        float | None,
        typer.Option(min=0, max=LONGEST_GOOD_FOR, help="Seconds for which the code is good at least (5)."),
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Print a one-time code that nobody has got yet, of a user that you hold; may take 30 seconds to come."""
    with open_farm(url) as farm:
        query = "" if good_for is None else f"?good_for={good_for:g}"
        path = f"{_path(farm, lease_id, user)}/totp{query}"
        found = farm.send(Call(method="GET", path=path, wait=LONGEST_CODE_WAIT))
    if as_json:
        print_json(found)
    else:
        say(found["code"])


def write_back(
    lease_id: LeaseArgument,
    user: LeasedUserArgument = None,
    *,
    password: Annotated[
        bool, typer.Option("--password", help="Ask for the new password, or read it from standard input.")
    ] = False,
    secrets: SecretChangesFile = None,
    session_ends_in: Annotated[
        int | None,
        duration_option("--session-ends-in", "How long the session among the secrets is good from now on."),
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Tell the farm what a test has changed: the password or the secrets of a user that you hold."""
    if not (password or secrets or session_ends_in):
        raise typer.BadParameter("say what to write back: --password, --secrets, --session-ends-in")
    changes = read_credentials(password=password, secrets=secrets)
    if session_ends_in:
        ends_at = datetime.now(UTC) + timedelta(seconds=session_ends_in)
        changes["session_expires_at"] = ends_at.isoformat()
    with open_farm(url) as farm:
        written = farm.patch(_path(farm, lease_id, user), changes)
    write_masks([{**written, **changes}])
    if as_json:
        print_json(user_without_passwords(written))
    else:
        names = [{"session_expires_at": "session's end"}.get(name, name) for name in sorted(changes)]
        say(f"Wrote the {' and the '.join(names)} of {written['login']} back.")


def _path(farm: "Connection", lease_id: UUID, user: str | None) -> str:
    """The path of a user. An id is not looked up: the request reports if the lease has no such user."""
    user_id = user if user is not None and is_id(user) else _user_id_of(farm, lease_id, user)
    return f"/leases/{lease_id}/users/{user_id}"


def _user_id_of(farm: "Connection", lease_id: UUID, login: str | None) -> str:
    lease = farm.get(f"/leases/{lease_id}")
    users: list[Json] = lease["users"]
    if not users:  # users can be deleted only after their lease has ended
        raise CommandError("the lease has ended, and its users are deleted", exit_code=ExitCode.LAPSED)
    found = users
    if login is not None:  # only the farm knows which spellings of a login are one account
        named = farm.items("/users", login=login, project_id=lease["project_id"], env=lease["env"])
        found = [user for user in users if user["id"] in {each["id"] for each in named}]
    if not found:
        raise CommandError(
            f"the lease has no such user: see `botfarm leases show {lease_id}`",
            exit_code=ExitCode.NO_SUCH_THING,
        )
    if len(found) > 1:
        raise CommandError(
            f"the lease has {len(users)} users: name one, from `botfarm leases show {lease_id}`",
            exit_code=ExitCode.USAGE,
        )
    return str(found[0]["id"])
