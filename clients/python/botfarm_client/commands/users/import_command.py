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
from botfarm_client.commands.shared.lookups import project_id_of
from botfarm_client.commands.shared.options import DEFAULT_URL, AsJson, Url
from botfarm_client.commands.shared.output import counted, note, print_json, say
from botfarm_client.commands.users.import_upload import Imported, UserImport
from botfarm_client.shared.control_characters import escape_control_characters
from botfarm_client.shared.user_files import (
    BadLine,
    Format,
    Record,
    UserFileError,
    format_of,
    read_csv,
    read_json_lines,
)


class OnError(StrEnum):
    FAIL = "fail"
    SKIP = "skip"


def import_users(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="- is standard input.")],
    *,
    project: Annotated[
        str | None, typer.Option("--project", metavar="PROJECT", help="For rows that name none.")
    ] = None,
    on_error: Annotated[
        OnError, typer.Option("--on-error", help="With a bad line, create none, or all the others.")
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

    Ends with 3 when lines are bad; each is named, with its number in the file.
    """
    with _opened(path) as file, open_farm(url) as farm, _progress(file) as on_chunk:
        default_project = project_id_of(farm, project)
        records = _records(file, file_format, path.name, given={"project"} if default_project else ())
        importing = UserImport(farm, default_project=default_project, on_chunk=on_chunk)
        imported = importing.run(records, on_error=on_error)
    _report(imported, on_error, as_json=as_json)


def _records(
    file: BufferedReader, file_format: Format | None, name: str, given: Collection[str]
) -> Iterable[Record | BadLine]:
    """Raises CommandError for errors of the whole file, before anything is sent."""
    try:
        if (file_format or format_of(name, file)) is Format.CSV:
            records = read_csv(file, given=given)
        else:
            records = read_json_lines(file)
        first = list(islice(records, 1))
    except UserFileError as error:
        raise CommandError(f"{error}; see `botfarm users import --help`") from None
    return chain(first, records)


def _report(imported: Imported, on_error: OnError, *, as_json: bool) -> None:
    skipped = imported.bad_count if on_error is OnError.SKIP else 0
    if as_json:
        errors = [bad.shown() for bad in imported.bad_lines]
        print_json({"created": imported.created, "skipped": skipped, "errors": errors})
    else:
        for bad in imported.bad_lines:
            where = f"{bad.field}: " if bad.field else ""
            of = f" of line {bad.earlier_line}" if bad.earlier_line else ""
            typer.echo(escape_control_characters(f"line {bad.line}: {where}{bad.code}{of}"), err=True)
        say(f"Created {counted(imported.created, 'user')}, skipped {counted(skipped, 'line')}.")
    if imported.bad_lines:
        way_out = (
            "" if on_error is OnError.SKIP else "; nothing was created: mend them, or say --on-error skip"
        )
        note(f"{counted(imported.bad_count, 'bad line')}{way_out}")
        raise typer.Exit(ExitCode.BAD_LINES)


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
