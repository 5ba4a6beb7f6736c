"""Exports users to a file or, without their credentials, to standard output."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typing_extensions import override

from botfarm_client.commands.shared.command_errors import CommandError, ExitCode
from botfarm_client.commands.shared.farm_access import open_farm
from botfarm_client.commands.shared.key_values import parse_pairs
from botfarm_client.commands.shared.lookups import project_id_of
from botfarm_client.commands.shared.options import (
    DEFAULT_URL,
    AsJson,
    LabelOptions,
    MaybeDomain,
    MaybeEnv,
    MaybeProject,
    Url,
)
from botfarm_client.commands.shared.output import counted, note, on_terminal, print_json, say
from botfarm_client.commands.users.options import State
from botfarm_client.shared.control_characters import escape_control_characters
from botfarm_client.shared.user_files.records import Format
from botfarm_client.shared.user_files.writing import written

if TYPE_CHECKING:
    from botfarm_client.connection.connection import Connection

STANDARD_OUTPUT = Path("-")


def export_users(
    output: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A new file; without it, or -, standard output.")
    ] = None,
    *,
    project: MaybeProject = None,
    env: MaybeEnv = None,
    domain: MaybeDomain = None,
    state: Annotated[State | None, typer.Option("--state", help="Without it all but retired users.")] = None,
    label: LabelOptions = [],  # noqa: B006  typer makes a new list for each call
    file_format: Annotated[
        Format | None, typer.Option("--format", help="Else the file's name tells: .csv or .jsonl.")
    ] = None,
    with_credentials: Annotated[
        bool,
        typer.Option(
            "--with-credentials",
            help="With passwords, secrets and seeds in clear, for admins; recorded in the audit.",
        ),
    ] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Export users as CSV or JSON lines, as `users import` reads them.

    A file with credentials is readable for you alone. Status, health and history are no part of it.
    """
    if with_credentials:
        _refuse_to_show_credentials(output)
    path = None if output == STANDARD_OUTPUT else output
    chosen_format = file_format or _format_of(path)
    labels = parse_pairs(label, option="--label")
    with open_farm(url) as farm:
        wanted = {
            "project_id": project_id_of(farm, project),
            "env": env,
            "domain": domain,
            "state": state,
            "labels": labels,
            "credentials": with_credentials,
        }
        users = _Counted(farm, {name: value for name, value in wanted.items() if value})
        users.read_ahead()  # a refusal comes before the file is made
        if as_json and path is None:
            print_json({"items": list(users)})
        else:
            with _opened(path) as write:
                for text in written(users, chosen_format, with_credentials=with_credentials):
                    write(text)
    if path:
        _report(users.count, path, as_json=as_json)
    if with_credentials:
        note("these are passwords in clear: delete the file when it has done its work")


def _report(count: int, path: Path, *, as_json: bool) -> None:
    if as_json:
        print_json({"exported": count, "file": str(path)})
    else:
        say(f"Exported {counted(count, 'user')} to {path}.")


class _Counted(Iterator[dict[str, Any]]):
    """The users of an export, page by page."""

    def __init__(self, farm: "Connection", wanted: dict[str, Any]) -> None:
        self.count = 0
        self._farm = farm
        self._wanted = wanted
        self._page: list[dict[str, Any]] = []
        self._has_more = True

    def read_ahead(self) -> None:
        while self._has_more and not self._page:
            answer = self._farm.post("/users/export", self._wanted)
            self._page = answer["items"][::-1]
            self._wanted["cursor"] = answer["next_cursor"]
            self._has_more = answer["next_cursor"] is not None

    @override
    def __next__(self) -> dict[str, Any]:
        self.read_ahead()
        if not self._page:
            raise StopIteration
        self.count += 1
        return self._page.pop()


def _refuse_to_show_credentials(output: Path | None) -> None:
    if output is None or (output == STANDARD_OUTPUT and on_terminal()):
        raise typer.BadParameter(
            "with credentials, name a file; - writes them to standard output, unless that is a terminal",
            param_hint="FILE",
        )


def _format_of(path: Path | None) -> Format:
    return Format.JSONL if path and path.suffix.lower() in {".jsonl", ".ndjson"} else Format.CSV


def _say(text: str) -> None:
    line = text.removesuffix("\n").removesuffix("\r")
    say(escape_control_characters(line) if on_terminal() else line.encode())


@contextmanager
def _opened(path: Path | None) -> Iterator[Callable[[str], object]]:
    """A new file that only its owner may read, and that is gone again after an error."""
    if path is None:
        yield _say
        return
    try:
        file = open(path, "x", encoding="utf-8", newline="", opener=_for_its_owner)  # noqa: SIM115  it is closed below
    except OSError as error:
        reason = "it is there already" if isinstance(error, FileExistsError) else error.strerror
        raise CommandError(f"cannot make {path}: {reason}", exit_code=ExitCode.USAGE) from None
    try:
        with file:
            yield file.write
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _for_its_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
