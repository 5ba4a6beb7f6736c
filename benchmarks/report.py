"""The output of the run: a table on the terminal, results.json, the plot, and the tables of the page."""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.plan import Plan
from benchmarks.ratios import TARGETS
from benchmarks.results import Results

_BEGIN, _END = "<!-- The last run: written by `make bench`. -->", "<!-- Until here. -->"
_COLUMNS = {
    "pairs_per_second": "pairs/s",
    "acquire_p50_ms": "acquire p50, ms",
    "acquire_p99_ms": "acquire p99, ms",
    "release_p50_ms": "release p50, ms",
    "api_cpu": "API CPU",
    "postgres_cpu": "PostgreSQL CPU",
    "load_cpu": "wrk CPU",
    "batch_size": "batch",
    "failures": "refused",
}
_WHOLE = 100  # values from here on are shown without decimals
_SINGLE = ("idle-waiters", "wake", "fairness", "open-pages", "reaping", "memory")


@dataclass(frozen=True, slots=True)
class Report:
    plan: Plan
    results: Results
    ratios: dict[str, float | None]
    machine: dict[str, object]
    versions: dict[str, str]
    durability: dict[str, str]
    seconds: float

    def write(self) -> None:
        self.plan.plot.parent.mkdir(parents=True, exist_ok=True)
        document = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "ratios": self.ratios,
            "targets": {key: str(target) for key, target in TARGETS.items()},
            "machine": self.machine,
            "versions": self.versions,
            "postgresql_settings": self.durability,
            "plan": {name: value for name, value in asdict(self.plan).items() if name != "publish"},
            "seconds": round(self.seconds),
            "rows": {
                name: {"median": self._medians(name), "rounds": rounds}
                for name, rounds in self.results.rows.items()
            },
            "skipped": self.results.skipped,
            "failed": self.results.failed,
        }
        self.plan.results.write_text(json.dumps(document, indent=2) + "\n")
        _fill_in(self.plan.page, self.text())

    def text(self) -> str:
        """The tables in Markdown, which also reads well on a terminal."""
        return "\n".join(
            [
                *self._ratio_table(),
                "",
                *self._throughput_table(),
                "",
                *self._single_rows(),
                "",
                *self._setting(),
            ]
        )

    def _ratio_table(self) -> list[str]:
        lines = ["| ratio | value | target | reached | what |", "|---|---|---|---|---|"]
        for key, target in TARGETS.items():
            value = self.ratios[key]
            shown = "not measured" if value is None else _number(value)
            is_reached = None if value is None else target.is_reached(value)
            reached = {None: "", True: "yes", False: "**no**"}[is_reached]
            lines.append(f"| `{key}` | {shown} | {target} | {reached} | {target.describe(self.plan)} |")
        return lines

    def _throughput_table(self) -> list[str]:
        shown = [name for name in self.results.rows if name not in _SINGLE]
        lines = ["| row | " + " | ".join(_COLUMNS.values()) + " |", "|---" * (len(_COLUMNS) + 1) + "|"]
        for name in sorted(shown, key=_order):
            medians = self._medians(name)
            lines.append(
                f"| {name} | " + " | ".join(_number(medians.get(column)) for column in _COLUMNS) + " |"
            )
        return lines

    def _single_rows(self) -> list[str]:
        lines = []
        for name in _SINGLE:
            if name in self.results.rows:
                values = ", ".join(
                    f"{key.replace('_', ' ')} {_number(value)}" for key, value in self._medians(name).items()
                )
                lines.append(f"- {name}: {values}")
        lines += [f"- {name}: skipped, {reason}" for name, reason in self.results.skipped.items()]
        return lines + [f"- {name}: **failed**, {reason}" for name, reason in self.results.failed.items()]

    def _setting(self) -> list[str]:
        settings = ", ".join(f"`{name}` {value}" for name, value in self.durability.items())
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        machine = f"{self.machine['cores']} cores of {self.machine['cpu']}, {self.machine['memory_gb']} GB"
        return [
            f"{datetime.now(UTC):%Y-%m-%d}, {self._rounds()}, {self.seconds / 60:.0f} minutes in all.",
            "",
            f"Machine: {machine}, {self.machine['system']}, files on {self.machine['file_system']}.",
            "",
            f"PostgreSQL: {settings}; everything else as it comes.",
            "",
            f"Versions: {versions}.",
        ]

    def _rounds(self) -> str:
        rounds = "1 round" if self.plan.rounds == 1 else f"medians of {self.plan.rounds} rounds"
        return f"{rounds} of {self.plan.seconds} s for each row"

    def _medians(self, name: str) -> dict[str, float]:
        names = dict.fromkeys(key for each in self.results.rows[name] for key in each)
        return {key: value for key in names if (value := self.results.median(name, key)) is not None}


def _order(name: str) -> tuple[int, int]:
    """Sorts rows by kind, then by the number in the name."""
    kinds = ("pgbench", "http", "uncoalesced", "plain", "bare", "default", "warning", "pool", "leased")
    numbers = [int(part) for part in name.split("-") if part.isdecimal()]
    kind = next((place for place, each in enumerate(kinds) if name.startswith(each)), len(kinds))
    return kind, sum(numbers)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= _WHOLE or value == int(value) else f"{value:.3g}"


def _fill_in(page: Path, text: str) -> None:
    """Replaces the text between the two marks of a page written by hand, or creates a page."""
    content = page.read_text() if page.exists() else f"{_BEGIN}\n{_END}\n"
    before, _, rest = content.partition(_BEGIN)
    page.write_text(f"{before}{_BEGIN}\n\n{text}\n\n{_END}{rest.partition(_END)[2]}")
