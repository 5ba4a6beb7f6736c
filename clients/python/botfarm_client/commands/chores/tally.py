from collections import Counter

from botfarm_client.commands.shared.output import counted, note, print_json, say
from botfarm_client.leasing.verdicts import OUTCOMES, Verdict

LOST = "lost"
"""The lease ended under the program."""


class Tally:
    """How many chores ended how."""

    def __init__(self) -> None:
        self._ends: Counter[str] = Counter()

    @property
    def total(self) -> int:
        return self._ends.total()

    def add(self, chore: str, verdict: Verdict | None) -> None:
        """Counts a chore, and says how it has ended. None: its lease was lost."""
        end = verdict.outcome or "ok" if verdict else LOST
        self._ends[end] += 1
        reason = f" ({verdict.reason})" if verdict and verdict.reason else ""
        text = f": {verdict.note}" if verdict and verdict.note else ""
        note(f"{chore}: {end}{reason}{text}")

    def show(self, *, as_json: bool) -> None:
        ends = {end: self._ends[end] for end in (*OUTCOMES, LOST)}
        if as_json:
            print_json({"chores": self.total, **ends})
            return
        parts = ", ".join(f"{count} {end}" for end, count in ends.items() if count)
        say(f"{counted(self.total, 'chore')}{f': {parts}' if parts else ''}.")
