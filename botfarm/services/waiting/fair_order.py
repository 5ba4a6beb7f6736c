"""Whose turn it is. Strictly one after the other, with two refinements where requests ask for different labels.

An earlier ticket stands in the way of a later one only for users that both of them match, so one that waits for a
rare kind does not hold up everybody. And a ticket whose turn it is need not share: a grant takes any users that match,
so a later one waits a moment where it could take the very user that the earlier one needs.
"""

from collections import Counter
from collections.abc import Mapping

from botfarm.domain.waiting import Line, Place


def whose_turn(line: Line) -> list[Place]:
    """The places whose tickets may be granted now: all of them, at once and in any order.

    A ticket that cannot go yet still reserves what it wants: small requests do not starve a big one.
    """
    users = _Users(line.free)
    earlier: Counter[int] = Counter()  # by sets of labels: the users that earlier tickets want
    going: Counter[int] = Counter()  # and those that tickets want whose turn it is
    turns = []
    for place in line.places:
        wanted, this = place.wanted, Counter({place.wanted: place.count})
        together = going + this
        if users.suffice(wanted, earlier + this) and all(
            users.suffice(each, together) for each in going if users.in_common(each, wanted)
        ):
            turns.append(place)
            going = together
        earlier += this
    return turns


def is_mixed(line: Line) -> bool:
    """Whether tickets ask for different labels. Then one may have its turn although no user was freed: because one went."""
    return len({place.wanted for place in line.places}) > 1


class _Users:
    def __init__(self, free: Mapping[frozenset[int], int]) -> None:
        self._free = free
        self._in_common: dict[tuple[int, int], int] = {}

    def suffice(self, wanted: int, claims: Mapping[int, int]) -> bool:
        """Whether the free users of this set are enough for it, even if the claims of others take all of them that they can."""
        taken = sum(
            min(claim, self.in_common(wanted, other)) for other, claim in claims.items() if other != wanted
        )
        return claims[wanted] + taken <= self.in_common(wanted, wanted)

    def in_common(self, one: int, other: int) -> int:
        """How many free users match both sets of labels."""
        pair = (one, other)
        if pair not in self._in_common:
            self._in_common[pair] = sum(
                users for matches, users in self._free.items() if matches.issuperset(pair)
            )
        return self._in_common[pair]
