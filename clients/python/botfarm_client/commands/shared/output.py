"""What commands print: JSON for scripts, tables and fields for people.

Without a terminal, tables have no colours and no lines.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import typer

from botfarm_client.commands.shared.command_errors import CommandError
from botfarm_client.shared.control_characters import escape_control_characters

GAP = "  "
# Characters. On a terminal, the columns of a table are at least so wide.
FOLDED = 20
COPIED = {"ID", "LOGIN", "PASSWORD", "PENDING_PASSWORD", "USERS"}
Columns = Mapping[str, Callable[[dict[str, Any]], object]]


def say(line: str | bytes = "") -> None:
    try:
        typer.echo(line)
    except BrokenPipeError:  # the reader has closed the pipe; Typer ends the command
        raise
    except OSError as error:
        raise CommandError(f"cannot write: {error.strerror}") from None


def print_json(document: object) -> None:
    say(json.dumps(document, indent=2))  # in ASCII, which any terminal and pipe can show


def print_table(columns: Columns, items: Sequence[dict[str, Any]]) -> None:
    rows = [[escape_control_characters(_text(cell(item))) for cell in columns.values()] for item in items]
    headers = [name.upper() for name in columns]
    if on_terminal():
        _print_on_terminal(headers, rows)
    else:
        _print_aligned([headers, *rows])


def print_fields(fields: Mapping[str, object]) -> None:
    """Prints a line for each field that has a value."""
    shown = {name: escape_control_characters(_text(value)) for name, value in fields.items() if _text(value)}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        label = typer.style(f"{name:<{width}}", bold=True) if on_terminal() else f"{name:<{width}}"
        say(f"{label}{GAP}{value}")


def note(message: str) -> None:
    """Prints a message that is not the result to standard error."""
    typer.echo(f"botfarm: {escape_control_characters(message)}", err=True)


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def note_if_more(*, more: bool, shown: int) -> None:
    if more:
        note(f"these are the first {shown}; --limit or --all shows more")


def on_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _print_on_terminal(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console  # noqa: PLC0415  only on a terminal
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, padding=(0, len(GAP), 0, 0), header_style="bold")
    columns = list(zip(headers, *rows, strict=True))
    widths = [_narrowest(column) for column in columns]
    for column, width in zip(columns, widths, strict=True):
        is_whole = width == max(map(len, column))
        table.add_column(column[0], overflow="fold", min_width=width, no_wrap=is_whole)
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console()
    console.width = max(console.width, sum(widths) + len(GAP) * len(widths))
    console.print(table)


def _narrowest(column: Sequence[str]) -> int:
    """The least width of a column. Long texts may be folded, except for columns that people copy from."""
    longest = max(map(len, column))
    return longest if column[0] in COPIED else min(longest, FOLDED)


def _print_aligned(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        say(GAP.join(cells).rstrip())
