"""Checks the history of a run again: `python -m chaos.checker HISTORY [--database URL] [--log FILE]...`."""

import argparse
import asyncio
import sys
from pathlib import Path

from chaos.checker import check, passwords_of, read_kept
from chaos.history import read_history


def main() -> int:
    """Prints each broken promise. Without a database, only those that the answers alone show.

    The exit code is 1 if there are any.
    """
    parser = argparse.ArgumentParser(prog="python -m chaos.checker", description=main.__doc__)
    parser.add_argument("history", type=Path)
    parser.add_argument("--database", metavar="URL", help="the database as the run left it")
    parser.add_argument(
        "--log", type=Path, action="append", default=[], help="a log to look for passwords in"
    )
    options = parser.parse_args()
    history = read_history(options.history)
    kept = options.database and asyncio.run(read_kept(options.database, passwords_of(history)))
    violations = check(history, kept or None, logs=options.log)
    for violation in violations:
        print(violation)
    print(f"{len(history.calls)} calls, {len(history.faults)} faults, {len(violations)} broken promises")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
