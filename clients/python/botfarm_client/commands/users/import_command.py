import os
import stat
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from io import BufferedReader
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, cast

import typer

from botfarm_client.commands.shared.command_errors import CommandError, ExitCode
from botfarm_client.commands.shared.farm_access import open_farm
from botfarm_client.commands.shared.key_values import parse_pairs
from botfarm_client.commands.shared.lookups import project_id_of
from botfarm_client.commands.shared.options import DEFAULT_URL, AsJson, Url
from botfarm_client.commands.shared.output import counted, note, print_json, say
from botfarm_client.commands.users.import_upload import Imported, UserImport
from botfarm_client.shared.control_characters import escape_control_characters
from botfarm_client.shared.user_files.reading import UserFile
from botfarm_client.shared.user_files.records import (
    BadLine,
    Format,
    Reading,
    Record,
    UserFileError,
    is_field,
)


class OnError(StrEnum):
    FAIL = "fail"
    SKIP = "skip"
    UPDATE = "update"


_WAYS_OUT = {
    OnError.FAIL: "; nothing was created: mend them, or say --on-error skip or update",
    OnError.SKIP: "",
    OnError.UPDATE: "; nothing was changed: mend them",
}


def import_users(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="- is standard input.")],
    *,
    project: Annotated[
        str | None, typer.Option("--project", metavar="PROJECT", help="For rows that name none.")
    ] = None,
    env: Annotated[str | None, typer.Option("--env", metavar="ENV", help="For rows that name none.")] = None,
    domain: Annotated[
        str | None, typer.Option("--domain", metavar="DOMAIN", help="For rows that name none.")
    ] = None,
    column: Annotated[
        list[str],
        typer.Option(
            "--column",
            metavar="FIELD=COLUMN",
            help="The column that a field is read from, as login=Username. Repeatable; others are passed over.",
        ),
    ] = [],  # noqa: B006  typer makes a new list for each call
    on_error: Annotated[
        OnError,
        typer.Option(
            "--on-error",
            help="With a bad line create none, or skip it; or change users that are there as their lines say.",
        ),
    ] = OnError.FAIL,
    file_format: Annotated[
        Format | None, typer.Option("--format", help="Else the name or the first character tells.")
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Import users from CSV or JSON lines, 64 MB at most.

    CSV begins with a row of column names: login, password, env, domain;
    project (name or id) or project_id; secrets, a JSON object; totp_seed;
    any number of label.NAME, or labels as a JSON object.
    JSON lines have the fields of the same names.
    Columns of other names, as password managers write them, are mapped by --column.

    Ends with 3 when lines are bad; each is named, with its number in the file.
    """
    columns = _mapped(column)
    with _opened(path) as file, open_farm(url) as farm, _progress(file) as on_chunk:
        default_project = project_id_of(farm, project)
        given = {"project": default_project, "env": env, "domain": domain}
        reading = Reading({name: value for name, value in given.items() if value}, columns)
        users, records = _read(file, path.name, reading, file_format)
        importing = UserImport(farm, default_project=default_project, on_chunk=on_chunk)
        imported = importing.run(records, on_error=on_error)
    _report(imported, on_error, users.passed_over, as_json=as_json)


def _mapped(columns: Collection[str]) -> dict[str, str]:
    """The columns by their fields."""
    mapped = parse_pairs(columns, option="--column", pair="FIELD=COLUMN")
    for field in mapped:
        if not is_field(field):
            raise typer.BadParameter(f"there is no field {field!r}", param_hint="--column")
    if len(mapped) < len(columns):
        raise typer.BadParameter("each field is read from one column", param_hint="--column")
    return mapped


def _read(
    file: BufferedReader, name: str, reading: Reading, file_format: Format | None
) -> tuple[UserFile, Iterable[Record | BadLine]]:
    """Raises CommandError for errors of the whole file, before anything is sent."""
    try:
        users = UserFile(file, name, reading, file_format=file_format)
        first = list(islice(users, 1))
    except UserFileError as error:
        raise CommandError(f"{error}; see `botfarm users import --help`") from None
    return users, chain(first, users)


def _report(imported: Imported, on_error: OnError, passed_over: list[str], *, as_json: bool) -> None:
    skipped = imported.bad_count if on_error is OnError.SKIP else 0
    if as_json:
        _print_json(imported, skipped, passed_over)
    else:
        for bad in imported.bad_lines:
            where = f"{bad.field}: " if bad.field else ""
            of = f" of line {bad.earlier_line}" if bad.earlier_line else ""
            typer.echo(escape_control_characters(f"line {bad.line}: {where}{bad.code}{of}"), err=True)
        say(_sentence(imported, on_error, skipped))
        if passed_over:
            note(f"passed over: {', '.join(passed_over)}")
    if imported.bad_lines:
        note(f"{counted(imported.bad_count, 'bad line')}{_WAYS_OUT[on_error]}")
        raise typer.Exit(ExitCode.BAD_LINES)


def _print_json(imported: Imported, skipped: int, passed_over: list[str]) -> None:
    print_json(
        {
            "created": imported.created,
            "updated": imported.updated,
            "unchanged": imported.unchanged,
            "skipped": skipped,
            "errors": [bad.shown() for bad in imported.bad_lines],
            "passed_over": passed_over,
        }
    )


def _sentence(imported: Imported, on_error: OnError, skipped: int) -> str:
    created = f"Created {counted(imported.created, 'user')}"
    if on_error is OnError.UPDATE:
        return f"{created}, updated {imported.updated}, found {imported.unchanged} as they should be."
    return f"{created}, skipped {counted(skipped, 'line')}."


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    if str(path) == "-":
        if sys.stdin is None:
            raise CommandError("there is no standard input")
        yield cast("BufferedReader", sys.stdin.buffer)
        return
    try:
        file = path.open("rb")
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}", exit_code=ExitCode.USAGE) from None
    with file:
        yield file


@contextmanager
def _progress(file: BufferedReader) -> Iterator[Callable[[int], None]]:
    """Shows a progress bar on a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda _size: None
        return
    from rich.console import Console  # noqa: PLC0415  only on a terminal
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        information = os.fstat(file.fileno())
        total = information.st_size if stat.S_ISREG(information.st_mode) else None
        task = progress.add_task("Importing", total=total)

        def on_chunk(size: int) -> None:
            if total is None:
                progress.advance(task, size)
            else:
                progress.update(task, completed=file.tell())

        yield on_chunk
