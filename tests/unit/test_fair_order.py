"""The tickets that may be granted now, in queues that a person would think of and in generated ones."""

import random

from hypothesis import given
from hypothesis import strategies as st

from botfarm.domain.waiting import Place, Queue
from botfarm.services.waiting.fair_order import TOLERANCE, grantable, overtaking

ANY = 0


def queue(*counts: int, free: int) -> Queue:
    """A queue of tickets without labels, and so many free users."""
    places = [Place(number, ANY, count, is_ours=True) for number, count in enumerate(counts)]
    return Queue(places, {frozenset({ANY}): free} if free else {})


def mixed(*tickets: tuple[int, int], free: dict[tuple[int, ...], int]) -> Queue:
    """Tickets as (set of labels, count), free users by the sets that they match."""
    places = [Place(number, wanted, count, is_ours=True) for number, (wanted, count) in enumerate(tickets)]
    return Queue(places, {frozenset(matches): users for matches, users in free.items()})


def granted(of: Queue) -> list[int]:
    return [place.ticket_id for place in grantable(of)]


def test_the_first_tickets_are_grantable() -> None:
    assert granted(queue(1, 1, 1, free=2)) == [0, 1]
    assert granted(queue(free=3)) == []
    assert granted(queue(1, free=0)) == []


def test_a_big_count_reserves_users() -> None:
    assert granted(queue(3, 1, 1, free=2)) == []
    assert granted(queue(1, 3, 1, free=3)) == [0]
    assert granted(queue(3, 1, 1, free=4)) == [0, 1]


COMMON, RARE = 0, 1


def test_a_ticket_for_a_rare_user_holds_up_no_other() -> None:
    assert granted(mixed((RARE, 1), (COMMON, 1), free={(COMMON,): 1})) == [1]
    assert granted(mixed((RARE, 1), (COMMON, 1), (COMMON, 1), free={(COMMON,): 1})) == [1]


def test_the_rare_user_is_not_given_to_a_later_ticket() -> None:
    assert granted(mixed((RARE, 1), (COMMON, 1), free={(COMMON, RARE): 1})) == [0]
    assert granted(mixed((RARE, 2), (COMMON, 1), free={(COMMON, RARE): 1})) == []


def test_where_both_could_take_the_rare_user_the_later_ticket_waits() -> None:
    assert granted(mixed((RARE, 1), (COMMON, 1), free={(COMMON, RARE): 1, (COMMON,): 1})) == [0]
    assert granted(mixed((RARE, 1), (COMMON, 1), free={(COMMON, RARE): 2, (COMMON,): 1})) == [0, 1]


def test_a_ticket_for_a_rare_user_waits_for_grantable_tickets_before_it() -> None:
    assert granted(mixed((COMMON, 1), (RARE, 1), free={(COMMON, RARE): 1, (COMMON,): 1})) == [0]
    assert granted(mixed((COMMON, 1), (RARE, 1), free={(COMMON, RARE): 2})) == [0, 1]


def test_tickets_without_a_user_in_common_do_not_hold_up_each_other() -> None:
    assert granted(mixed((0, 1), (1, 1), (0, 1), (1, 1), free={(0,): 1, (1,): 1})) == [0, 1]


@given(st.lists(st.integers(1, 5)), st.integers(0, 20))
def test_without_labels_the_longest_beginning_that_fits_is_grantable(counts: list[int], free: int) -> None:
    expected, left = [], free
    for number, count in enumerate(counts):
        left -= count
        if left < 0:
            break
        expected.append(number)
    assert granted(queue(*counts, free=free)) == expected


SETS = st.integers(0, 3)
QUEUES = st.builds(
    lambda tickets, free: mixed(*tickets, free=free),
    st.lists(st.tuples(SETS, st.integers(1, 3)), max_size=8),
    st.dictionaries(
        st.lists(SETS, min_size=1, unique=True).map(lambda sets: tuple(sorted(sets))),
        st.integers(1, 4),
        max_size=6,
    ),
)


def free_for(of: Queue, wanted: int) -> int:
    return sum(users for matches, users in of.free.items() if wanted in matches)


@given(QUEUES)
def test_the_head_of_the_queue_is_grantable_when_there_are_users_for_it(
    of: Queue,
) -> None:
    if of.places and free_for(of, of.places[0].wanted) >= of.places[0].count:
        assert granted(of)[0] == of.places[0].ticket_id


@given(QUEUES, st.randoms())
def test_all_grantable_tickets_get_users_in_any_order_and_whichever_each_takes(
    of: Queue, chance: random.Random
) -> None:
    places = grantable(of)
    chance.shuffle(places)
    left = [matches for matches, users in of.free.items() for _ in range(users)]
    for place in places:
        chance.shuffle(left)
        mine = [matches for matches in left if place.wanted in matches][: place.count]
        assert len(mine) == place.count
        for matches in mine:
            left.remove(matches)


@given(QUEUES)
def test_a_later_ticket_changes_nothing_for_an_earlier_one(of: Queue) -> None:
    for length in range(len(of.places)):
        shorter = Queue(of.places[:length], of.free)
        assert granted(shorter) == [number for number in granted(of) if number < length]


@given(QUEUES, st.integers(1, 3))
def test_a_ticket_that_no_free_user_matches_holds_up_no_other(of: Queue, count: int) -> None:
    unmatched = Place(99, 99, count, is_ours=False)
    assert granted(Queue([unmatched, *of.places], of.free)) == granted(of)


@given(QUEUES)
def test_no_ticket_is_overtaken_by_a_later_one_for_the_same_users(of: Queue) -> None:
    going = set(granted(of))
    for position, earlier in enumerate(of.places):
        if earlier.ticket_id not in going:
            later = [place for place in of.places[position + 1 :] if place.wanted == earlier.wanted]
            reserved = sum(p.count for p in of.places[: position + 1] if p.wanted == earlier.wanted)
            if reserved > free_for(of, earlier.wanted):
                assert not [place for place in later if place.ticket_id in going]


def overtakers(*places: Place) -> list[int]:
    return [place.ticket_id for place in overtaking(places)]


def test_a_ticket_waits_for_one_of_another_replica_that_came_noticeably_earlier() -> None:
    other = Place(1, ANY, 1, is_ours=False, rank=10.0)
    soon = Place(2, ANY, 1, is_ours=True, rank=10.0 + TOLERANCE)
    late = Place(3, ANY, 1, is_ours=True, rank=10.5)
    assert overtakers(other, soon, late) == [3]


def test_a_ticket_does_not_wait_for_those_of_its_own_replica_or_for_later_ones() -> None:
    first, second = Place(1, ANY, 1, is_ours=True, rank=10.0), Place(2, ANY, 1, is_ours=True, rank=20.0)
    assert overtakers(first, second, Place(3, ANY, 1, is_ours=False, rank=30.0)) == []


def test_a_ticket_does_not_wait_for_one_that_wants_other_users() -> None:
    other = Place(1, RARE, 1, is_ours=False, rank=10.0)
    assert overtakers(other, Place(2, COMMON, 1, is_ours=True, rank=20.0)) == []
