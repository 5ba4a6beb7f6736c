"""The order of a queue: ticket by ticket, with two refinements where tickets ask for different labels.

An earlier ticket holds up a later one only for users that match both. So a ticket that waits for a rare kind
of user does not hold up the whole queue. And a grant takes any users that match. So a later ticket waits
where its grant could take the very user that an earlier ticket needs.
"""

from collections.abc import Mapping, Sequence

from botfarm.domain.waiting import Place, Queue

TOLERANCE = 0.02
"""Seconds. A ticket may be granted before a ticket of another replica whose rank is lower by at most this."""


def grantable(queue: Queue) -> list[Place]:
    """The places whose tickets may be granted now: all of them, at once and in any order.

    A ticket that cannot be granted yet still reserves the users that it wants, so that small requests do not
    starve a big one.
    """
    users = _Users(queue.free)
    earlier: dict[int, int] = {}  # by sets of labels: the users that earlier tickets want
    granting: dict[int, int] = {}  # the users that the grantable ones of these want
    places = []
    for place in queue.places:
        wanted = place.wanted
        earlier[wanted] = earlier.get(wanted, 0) + place.count
        if not users.suffice(wanted, earlier):
            continue
        together = {**granting, wanted: granting.get(wanted, 0) + place.count}
        if all(users.suffice(each, together) for each in granting if users.in_common(each, wanted)):
            places.append(place)
            granting = together
    return places


def overtaking(places: Sequence[Place]) -> list[Place]:
    """Our tickets among the grantable ones that should wait until another replica has granted its own.

    There is a user for each of them. But each replica grants its own tickets, and one may be slower than the others.
    """
    first_of_others: dict[int, float] = {}
    ours = []
    for place in places:
        if not place.is_ours:
            first_of_others.setdefault(place.wanted, place.rank)
        elif place.rank > first_of_others.get(place.wanted, float("inf")) + TOLERANCE:
            ours.append(place)
    return ours


def is_mixed(queue: Queue) -> bool:
    """Whether tickets ask for different labels.

    Then a grant alone, without a freed user, can make another ticket grantable.
    """
    return len({place.wanted for place in queue.places}) > 1


class _Users:
    def __init__(self, free: Mapping[frozenset[int], int]) -> None:
        self._free = free
        self._in_common: dict[tuple[int, int], int] = {}

    def suffice(self, wanted: int, claims: Mapping[int, int]) -> bool:
        """True if enough free users match, even if the other claims take all shared users that they can."""
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
