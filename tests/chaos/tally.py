"""Figures of a run, counted as its records come, so that a long run keeps none of them."""

from collections import Counter
from collections.abc import Mapping

from chaos.caller import Record
from chaos.history import Call, Fault

Json = dict[str, object]


class Tally:
    def __init__(self, record: Record) -> None:
        """Passes each record on."""
        self._record = record
        self._granted: set[str] = set()
        self.calls = 0
        self.faults = Counter[str]()
        self.answers = Counter[str]()
        """By status; `none` where no whole answer came."""
        self.longest_wait = 0.0
        """Seconds from an acquire to its grant, as its client saw them."""

    def add(self, record: Call | Fault) -> None:
        if isinstance(record, Fault):
            self.faults[record.kind if record.is_done else f"{record.kind}, not done"] += 1
        else:
            self._count(record)
        self._record.add(record)

    @property
    def grants(self) -> int:
        return len(self._granted)

    def line(self) -> str:
        answers = ", ".join(f"{status}: {count}" for status, count in sorted(self.answers.items()))
        return f"{self.grants} grants, {self.faults.total()} faults, answers {answers}"

    def figures(self, compared: Mapping[str, int]) -> Json:
        """`compared` is, by rule, what the checker has compared."""
        return {
            "grants": self.grants,
            "calls": self.calls,
            "faults": dict(sorted(self.faults.items())),
            "answers": dict(sorted(self.answers.items())),
            "longest_wait_seconds": round(self.longest_wait, 2),
            "compared": dict(compared),
        }

    def table(self, compared: Mapping[str, int]) -> str:
        """As `figures`."""
        rows = [("grants", self.grants), ("calls", self.calls)]
        rows += [(f"fault: {kind}", count) for kind, count in sorted(self.faults.items())]
        rows += [(f"answer: {status}", count) for status, count in sorted(self.answers.items())]
        rows += [(f"compared: {rule}", count) for rule, count in compared.items()]
        lines = [f"  {name:44} {count:>8}" for name, count in rows]
        return "\n".join([*lines, f"  {'longest wait':44} {self.longest_wait:>6.1f} s"])

    def _count(self, call: Call) -> None:
        self.calls += 1
        self.answers[str(call.status or "none")] += 1
        is_lease = call.operation in {"acquire_lease", "acquire_lock"} and call.status in {200, 201}
        if is_lease and call.answer["id"] not in self._granted:
            self._granted.add(call.answer["id"])
            self.longest_wait = max(self.longest_wait, call.ended_at - call.sent_at)
