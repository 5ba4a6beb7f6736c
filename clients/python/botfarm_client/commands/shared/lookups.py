"""Finds the ids that the API needs for the names that people use."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, overload

from botfarm_client.commands.shared.command_errors import CommandError, ExitCode
from botfarm_client.connection.api_calls import Json
from botfarm_client.shared.ids import is_id

if TYPE_CHECKING:
    from botfarm_client.connection.connection import Connection


def project_names(farm: "Connection") -> dict[str, str]:
    """The name of each project, by its id."""
    return {project["id"]: project["name"] for project in farm.items("/projects")}


@overload
def project_id_of(farm: "Connection", name_or_id: str) -> str: ...
@overload
def project_id_of(farm: "Connection", name_or_id: str | None) -> str | None: ...
def project_id_of(farm: "Connection", name_or_id: str | None) -> str | None:
    """The id of a project.

    An id is not looked up, because the request that uses it reports if it does not exist.
    """
    if name_or_id is None or is_id(name_or_id):
        return name_or_id
    for project_id, name in project_names(farm).items():
        if name == name_or_id:
            return project_id
    raise CommandError(
        f"there is no project {name_or_id!r}: see `botfarm projects list`", exit_code=ExitCode.NO_SUCH_THING
    )


def user_id_of(farm: "Connection", login_or_id: str) -> str:
    """The id of a user. A login may exist once in each project and env; then an id must be given."""
    if is_id(login_or_id):
        return login_or_id
    found: list[Json] = farm.items("/users", login=login_or_id, limit=2)
    if not found:
        raise CommandError(
            f"there is no user {login_or_id!r}: see `botfarm users list`", exit_code=ExitCode.NO_SUCH_THING
        )
    if len(found) > 1:
        raise CommandError(
            f"{login_or_id!r} is the login of several users: "
            "name one by its id, from `botfarm users list --login`"
        )
    return str(found[0]["id"])


def token_of(farm: "Connection", name_or_id: str) -> Json:
    """A token by name or id. Errors do not repeat the argument, which may be the token itself by mistake."""
    tokens = farm.items("/tokens")
    named = [token for token in tokens if token["name"] == name_or_id]
    found = [token for token in tokens if token["id"] == name_or_id] or list(filter(is_live, named))
    if len(found) > 1:
        raise CommandError(
            "several live tokens have this name: name one by its id, from `botfarm tokens list`"
        )
    if found:
        return found[0]
    if named:  # revoking twice is fine; of several, the newest is meant
        return max(named, key=lambda token: datetime.fromisoformat(token["created_at"]))
    raise CommandError("there is no such token: see `botfarm tokens list`", exit_code=ExitCode.NO_SUCH_THING)


def is_live(token: Json) -> bool:
    """Whether the token is in force, by this machine's clock."""
    expires_at = token["expires_at"]
    has_expired = expires_at is not None and datetime.fromisoformat(expires_at) <= datetime.now(UTC)
    return token["revoked_at"] is None and not has_expired
