"""The measured values, row by row and round by round, and the rows that were skipped or failed."""

import math
import statistics
from dataclasses import dataclass, field


@dataclass(slots=True)
class Results:
    rows: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, **values: float) -> None:
        values = {key: value for key, value in values.items() if not math.isnan(value)}
        self.rows.setdefault(name, []).append(values)
        print(f"  {name}: " + ", ".join(f"{key} {value:,.4g}" for key, value in values.items()), flush=True)

    def skip(self, name: str, reason: str) -> None:
        if name not in self.skipped:
            print(f"SKIP {name}: {reason}", flush=True)
        self.skipped[name] = reason

    def fail(self, name: str, error: Exception) -> None:
        self.failed[name] = f"{type(error).__name__}: {error}"
        print(f"FAILED {name}: {self.failed[name]}", flush=True)

    def median(self, row: str, value: str) -> float | None:
        found = [each[value] for each in self.rows.get(row, []) if value in each]
        return statistics.median(found) if found else None

    def ratio(self, row: str, value: str, to_row: str, to_value: str) -> float | None:
        """The median of each round's ratio, because a slow phase of the machine slows both rows."""
        rounds = zip(self.rows.get(row, []), self.rows.get(to_row, []), strict=False)
        found = [
            one[value] / other[to_value] for one, other in rounds if value in one and other.get(to_value)
        ]
        return statistics.median(found) if found else None
