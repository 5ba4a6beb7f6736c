"""Each command and each option of `botfarm` that a document names is there."""

import re
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
import typer

from botfarm.cli.command_table import COMMANDS as OF_THE_SERVER
from botfarm_client.commands.command_table import COMMANDS

CHECKOUT = Path(__file__).parents[2]
DOCUMENTS = [
    CHECKOUT / "README.md",
    *sorted((CHECKOUT / "docs").glob("*.md")),
    *sorted((CHECKOUT / "clients").glob("*/README.md")),
]
# In a block of code, or in backquotes within prose.
CODE = re.compile(r"^```(?:\w*)\n(?P<block>.*?)^```|`(?P<inline>botfarm [^`\n]+)`", re.MULTILINE | re.DOTALL)
# Where a shell expects a command, up to what ends it or begins the command that it runs.
START = r"(?:^\s*(?:\$ |- run: )?|[|;&(]\s*|\b(?:then|do|if|--)\s+|\b[A-Z_]+=\S+\s+)(?:\.venv/bin/)?"
COMMAND = re.compile(START + r"botfarm((?: +(?!--? )[^\s;|&<>()#\"'`]+| +\"[^\"]*\"| +'[^']*')*)")
WORD = re.compile(r"[a-z][a-z-]*")


def commands_of(document: Path) -> Iterator[str]:
    for code in CODE.finditer(document.read_text()):
        text = (code["block"] or code["inline"]).replace("\\\n", " ")
        for line in text.splitlines():
            for found in COMMAND.findall(line.partition(" # ")[0]):
                yield found.strip()


def loaded(name: str) -> Any:
    target = resolve_name({**COMMANDS, **OF_THE_SERVER}[name].target)
    if isinstance(target, typer.Typer):
        return typer.main.get_group(target)
    single = typer.Typer(add_completion=False)
    single.command(name)(target)
    return typer.main.get_command(single)


def complaint(command: str) -> str | None:
    words = re.findall(r"\"[^\"]*\"|'[^']*'|\S+", command)
    if not words or words[0].startswith("-"):
        return None
    if words[0] not in COMMANDS and words[0] not in OF_THE_SERVER:
        return f"no command {words[0]}"
    found, rest = loaded(words[0]), words[1:]
    while hasattr(found, "commands") and rest and WORD.fullmatch(rest[0]):
        if rest[0] not in found.commands:
            return f"no command {rest[0]}"
        found, rest = found.commands[rest[0]], rest[1:]
    known = {
        "--help",
        *(name for parameter in found.params for name in (*parameter.opts, *parameter.secondary_opts)),
    }
    unknown = {word.partition("=")[0] for word in rest if word.startswith("-") and word != "-"} - known
    return f"no option {', '.join(sorted(unknown))}" if unknown else None


@pytest.mark.parametrize("document", DOCUMENTS, ids=[str(path.relative_to(CHECKOUT)) for path in DOCUMENTS])
def test_a_document_names_only_commands_and_options_that_are_there(document: Path) -> None:
    complaints = {command: said for command in commands_of(document) if (said := complaint(command))}
    assert complaints == {}


def test_commands_are_found() -> None:
    found = [command for document in DOCUMENTS for command in commands_of(document)]
    assert len(found) > 100
    assert any(command.startswith("exec") for command in found)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("users nothing", "no command nothing"),
        ("nothing --at-all", "no command nothing"),
        ("leases acquire --project web --nothing", "no option --nothing"),
    ],
)
def test_what_is_not_there_is_found(command: str, said: str) -> None:
    assert complaint(command) == said
