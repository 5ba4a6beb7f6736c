"""`botfarm plan` and `botfarm apply`: the farm as a file says."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from botfarm_client.commands.configuration.farm_file import FarmFile, read_farm_file
from botfarm_client.commands.configuration.file_errors import FarmFileError, Mistake
from botfarm_client.commands.configuration.plan_view import print_plan
from botfarm_client.commands.configuration.token_folder import require_folder, write_token
from botfarm_client.commands.shared.command_errors import CommandError, ExitCode
from botfarm_client.commands.shared.farm_access import open_farm
from botfarm_client.commands.shared.options import DEFAULT_URL, AsJson, Url, Yes
from botfarm_client.commands.shared.output import counted, note, print_json, say
from botfarm_client.commands.shared.prompts import confirm
from botfarm_client.connection.api_calls import Call, Json
from botfarm_client.errors import ChangedMeanwhileError, InvalidRequestError
from botfarm_client.shared.control_characters import escape_control_characters

if TYPE_CHECKING:
    from botfarm_client.connection.connection import Connection

CHANGES = 2
"""The exit code of a plan with changes."""
WORK_TIME = 120.0
"""Seconds that the farm may take. It waits for another apply, and makes 10,000 users in some seconds."""
TRIES = 5
SHOWN_ERRORS = 20

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="Such as farm.yaml.")]
Prune = Annotated[
    bool,
    typer.Option(
        "--prune", help="Retire users, revoke tokens and trust rules that the file made and no longer names."
    ),
]
Adopt = Annotated[bool, typer.Option("--adopt", help="Take over what the file names and did not make.")]


def plan(
    path: FileArgument,
    *,
    prune: Prune = False,
    adopt: Adopt = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Say what an apply of a farm file would change.

    Ends with 0 when there is nothing to do, 2 when there are changes, 1 after
    any error.
    """
    try:
        with _named_errors(path):
            file = _read(path, prune=prune, adopt=adopt)
            with open_farm(url) as farm:
                planned = _plan(farm, file)
    except CommandError as error:
        raise CommandError(str(error)) from None
    if as_json:
        print_json(planned)
    else:
        print_plan(planned, prune=prune)
    raise typer.Exit(CHANGES if planned["changes"] else ExitCode.OK)


def apply(
    path: FileArgument,
    *,
    prune: Prune = False,
    adopt: Adopt = False,
    tokens_to: Annotated[
        Path | None,
        typer.Option("--tokens-to", metavar="DIR", help="Where new tokens are written, each to DIR/NAME."),
    ] = None,
    yes: Yes = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Make the farm as a farm file says, all of it or nothing.

    Secrets in the file are read for new users only: a user that exists keeps
    the password that a test or a keeper has written back.
    """
    with _named_errors(path):
        file = _read(path, prune=prune, adopt=adopt)
        with open_farm(url) as farm:
            applied = _apply(farm, file, tokens_to, yes=yes, quiet=as_json)
    tokens = applied.pop("tokens", [])
    written = {token["name"]: str(write_token(tokens_to, token)) for token in tokens if tokens_to}
    if as_json:
        print_json({**applied, "tokens": [_without_secret(token) for token in tokens]})
        return
    for name, token_path in written.items():
        note(f"the token {name} is in {token_path}")
    if applied["changes"]:
        say(f"Done: {counted(len(applied['changes']), 'change')}.")


def _apply(farm: "Connection", file: FarmFile, tokens_to: Path | None, *, yes: bool, quiet: bool) -> Json:
    """Plans, asks and applies, and once more when the farm has changed in between."""
    for _ in range(TRIES):
        planned = _plan(farm, file)
        if not quiet:
            print_plan(planned, prune=file.body["prune"])
        if not planned["changes"]:
            return planned
        new = _new_users(planned)
        body = {**file.with_seeds(new), "fingerprint": planned["fingerprint"]}
        require_folder(tokens_to, _new_tokens(planned))
        confirm("Apply?", yes=yes)
        try:
            return _ask(farm, file, "/config/apply", body)
        except ChangedMeanwhileError:
            note("the farm has changed since this plan was made: here is the new one")
    raise CommandError(
        "the farm changes faster than it can be planned: nothing was done", exit_code=ExitCode.BUSY
    )


def _plan(farm: "Connection", file: FarmFile) -> Json:
    """Raises FarmFileError for new users without a password, and for what the farm refuses."""
    planned = _ask(farm, file, "/config/plan", file.body)
    if missing := file.without_password(_new_users(planned)):
        raise FarmFileError(missing)
    return planned


def _ask(farm: "Connection", file: FarmFile, path: str, body: Json) -> Json:
    """Raises FarmFileError with the lines of what the farm refuses."""
    try:
        return farm.send(Call(method="POST", path=path, json=body, patience=WORK_TIME))
    except InvalidRequestError as error:
        raise _of_the_file(file, error) from None


def _read(path: Path, *, prune: bool, adopt: bool) -> FarmFile:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from None
    file = read_farm_file(content, path.parent)
    file.body |= {"prune": prune, "adopt": adopt}
    return file


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Prints errors of the file one by one, in order of lines, as compilers do."""
    try:
        yield
    except FarmFileError as found:
        errors = sorted(found.errors, key=lambda error: error.line)
        for error in errors[:SHOWN_ERRORS]:
            typer.echo(escape_control_characters(error.written(str(path))), err=True)
        count = counted(len(errors), "error")
        raise CommandError(f"{count} in {path}; nothing was changed") from None


def _of_the_file(file: FarmFile, error: InvalidRequestError) -> FarmFileError | InvalidRequestError:
    """The farm's errors at their lines in the file."""
    errors: list[Mistake] = [
        file.error(str(each.get("field", "")), str(each.get("message") or each.get("code")))
        for each in error.details.get("errors") or []
    ]
    return FarmFileError(errors) if errors else error


def _new_users(planned: Json) -> list[str]:
    return [str(each["where"]) for each in _created(planned, "user")]


def _new_tokens(planned: Json) -> list[str]:
    return [str(each["thing"]["name"]) for each in _created(planned, "token")]


def _created(planned: Json, kind: str) -> list[dict[str, Any]]:
    return [each for each in planned["changes"] if each["deed"] == "create" and each["thing"]["kind"] == kind]


def _without_secret(token: Json) -> Json:
    return {name: value for name, value in token.items() if name != "token"}
