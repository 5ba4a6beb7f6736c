"""Checks again what a run has left: `python -m chaos.checker HISTORY`."""

import argparse
import sys
from pathlib import Path

from chaos.checker import examine
from chaos.checker.left import KEPT, load_kept, logs_in
from chaos.history import read_history


def main() -> int:
    """Prints each broken promise, by the history, by what the database kept, and by the logs beside it.

    The exit code is 1 if there are any. Of a run that was broken off, the database's part may be missing.
    """
    parser = argparse.ArgumentParser(prog="python -m chaos.checker", description=main.__doc__)
    parser.add_argument("history", type=Path)
    options = parser.parse_args()
    history, folder = read_history(options.history), options.history.parent
    kept = load_kept(folder)
    if kept is None:
        print(f"there is no {folder / KEPT}: only the rules of answers and of logs are applied")
    findings = examine(history, kept, logs=logs_in(folder))
    for violation in findings.violations:
        print(violation)
    broken = len(findings.violations)
    print(f"{len(history.calls)} calls, {len(history.faults)} faults, {broken} broken promises")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
