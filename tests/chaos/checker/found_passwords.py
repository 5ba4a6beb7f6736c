"""Finds the passwords of a run in any text."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

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
    """Those of the answers to rotations."""
    answers = (
        call.answer for call in history.calls if call.operation == "start_rotation" and call.status == 200
    )
    return Passwords(frozenset(_without_canary(answer["pending_password"] for answer in answers)))


def _without_canary(passwords: Iterable[str]) -> Iterable[str]:
    return (password for password in passwords if CANARY not in password)
