"""Until when a write may take effect whose success nobody was told."""

from collections import defaultdict

from chaos.checker.changes import TAKES_EFFECT_WITHIN
from chaos.checker.seen import Seen, lease_named, user_in, users_of
from chaos.history import Call

DONE = frozenset({200, 201})
_NEVER = float("inf")


class Effects:
    def __init__(self, seen: Seen) -> None:
        self._fences: dict[str, int] = {}
        self._grants: dict[str, list[tuple[int, float]]] = defaultdict(list)
        """By user: fences of its leases, and when the first answer with each lease had come."""
        for lease_id, call in seen.granted():
            self._fences[lease_id] = call.answer["fence"]
            for user in users_of(call):
                self._grants[user].append((call.answer["fence"], call.ended_at))

    def over_at(self, call: Call) -> float:
        """Of a write of a user. A holder's needs its live lease, so it is over when a later lease has the user."""
        if call.status in DONE:
            return call.ended_at
        lease_id = lease_named(call)
        if lease_id is None:
            return call.ended_at + TAKES_EFFECT_WITHIN
        fence = self._fences.get(lease_id)
        if fence is None:
            return _NEVER
        return min((at for later, at in self._grants[user_in(call)] if later > fence), default=_NEVER)
