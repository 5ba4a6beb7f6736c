"""Finds the passwords of a run in any text."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from chaos.checker.seen import ACQUIRES, lease_in
from chaos.history import CANARY, History

# The farm's own passwords have 24 characters of this alphabet.
_LENGTH = 24
_RUN = re.compile(rf"[a-km-zA-HJ-NP-Z2-9._!-]{{{_LENGTH},}}")


@dataclass(frozen=True, slots=True)
class Passwords:
    """Those that the clients chose carry `CANARY`; those that the farm made are known from its answers."""

    made_by_the_farm: frozenset[str] = field(default=frozenset(), repr=False)

    def in_text(self, text: str) -> bool:
        return CANARY in text or (bool(self.made_by_the_farm) and any(map(self._has_one, _RUN.findall(text))))

    def _has_one(self, run: str) -> bool:
        return any(run[at : at + _LENGTH] in self.made_by_the_farm for at in range(len(run) - _LENGTH + 1))


def passwords_of(history: History) -> Passwords:
    """Those that keepers were shown as pending: in answers to rotations, and to acquires after a lost one."""
    return Passwords(frozenset(each for each in _pending_in(history) if CANARY not in each))


def _pending_in(history: History) -> Iterator[str]:
    for call in history.calls:
        if call.operation == "start_rotation" and call.status == 200:
            yield call.answer["pending_password"]
        elif call.operation in ACQUIRES and lease_in(call) is not None:
            for user in call.answer["users"]:
                if "pending_password" in user:
                    yield user["pending_password"]
