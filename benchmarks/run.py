"""What every measurement gets. A row that fails does not stop the others."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.database import Postgres
from benchmarks.plan import Plan
from benchmarks.results import Results
from benchmarks.tools import Tools

Row = tuple[str, Callable[[], None]]


@dataclass(frozen=True, slots=True)
class Run:
    plan: Plan
    tools: Tools
    postgres: Postgres
    results: Results
    started: float = field(default_factory=time.monotonic)

    def measure(self, name: str, measure: Callable[[], None]) -> None:
        try:
            measure()
        except Exception as error:  # noqa: BLE001  the other rows are still worth their time
            self.results.fail(name, error)

    def measure_in_rounds(self, rows: Sequence[Row], *, rounds: int) -> None:
        """Measures the rows forwards and backwards in turn, so that no row is always the last of a round."""
        for number in range(rounds):
            self.say(f"round {number + 1} of {rounds}")
            for name, measure in rows if number % 2 == 0 else reversed(rows):
                self.measure(name, measure)

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.started:4.0f} s] {text}", flush=True)
