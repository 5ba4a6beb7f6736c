"""The runbook's commands and their options exist, and its SQL shows what it looks for."""

import asyncio
import re

import asyncpg
import pytest

from stages import CHECKOUT, run
from support.processes import BOTFARM

RUNBOOK = (CHECKOUT / "docs/runbook.md").read_text()
STATEMENTS = [
    statement
    for block in re.findall(r"^```sql\n(.*?)^```", RUNBOOK, flags=re.DOTALL | re.MULTILINE)
    for statement in re.findall(r"[^;]+;", block)
    if statement.lstrip().startswith("SELECT")
]


def commands() -> dict[str, set[str]]:
    """Each with the options that are given to it somewhere."""
    found: dict[str, set[str]] = {}
    for typed in re.findall(r"`botfarm ([a-z][^`]*)`", RUNBOOK):
        command = re.match(r"[a-z-]+( [a-z][a-z-]+)?", typed)
        assert command
        found.setdefault(command[0], set()).update(re.findall(r"--[a-z-]+", typed))
    return found


@pytest.mark.parametrize(("command", "options"), commands().items(), ids=commands())
def test_each_command_and_option_is_there(command: str, options: set[str]) -> None:
    described = run(BOTFARM, *command.split(), "--help", environment={"COLUMNS": "200"})
    assert "Usage" in described
    assert {option for option in options if not re.search(rf"{option}\b(?!-)", described)} == set()


def test_its_sql_shows_a_session_that_wrote_and_idles_in_its_transaction(database_url: str) -> None:
    """It has no snapshot any more, only a transaction id, and still keeps vacuum from its work."""

    async def look() -> tuple[int, list[list[asyncpg.Record]]]:
        forgotten, mine = [await asyncpg.connect(database_url) for _ in range(2)]
        try:
            await mine.execute("CREATE TABLE leases (id int)")
            await forgotten.execute("BEGIN; INSERT INTO leases VALUES (1)")
            answers = [await mine.fetch(statement) for statement in STATEMENTS]
            return forgotten.get_server_pid(), answers
        finally:
            await forgotten.close()
            await mine.close()

    forgotten, answers = asyncio.run(look())
    holders, blockers, *others = answers
    assert len(others) == 3
    for sessions in (holders, blockers):
        (session,) = (each for each in sessions if each["pid"] == forgotten)
        assert session["state"] == "idle in transaction"
