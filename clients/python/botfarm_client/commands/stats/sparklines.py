"""Plots of one line, for terminals."""

import sys
from collections.abc import Sequence

from botfarm_client.commands.shared.output import on_terminal

BARS = "▁▂▃▄▅▆▇█"
NOTHING = " "
WIDEST = 40
"""Characters. Of more values, neighbours share a bar: the highest of them."""


def can_be_drawn() -> bool:
    """Whether standard output is a terminal that has the characters."""
    try:
        BARS.encode((sys.stdout and sys.stdout.encoding) or "ascii")
    except UnicodeEncodeError:
        return False
    return on_terminal()


def sparkline(values: Sequence[float | None]) -> str:
    """A bar for each value, from 0 to the highest of them; a blank for None."""
    per_bar = -(-len(values) // WIDEST) or 1
    shown = [_highest(values[first : first + per_bar]) for first in range(0, len(values), per_bar)]
    top = max((value for value in shown if value is not None), default=0) or 1
    return "".join(
        NOTHING if value is None else BARS[round(value / top * (len(BARS) - 1))] for value in shown
    )


def _highest(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
