"""The places to wait are shared: no principal takes them all."""

from contextlib import ExitStack

import pytest

from botfarm.errors import TooManyWaitersError
from botfarm.services.waiting.waiting_places import WaitingPlaces


def take_all(places: WaitingPlaces, stack: ExitStack, principal: str) -> int:
    """Takes places until one is refused. Returns how many the principal got."""
    taken = 0
    while True:
        try:
            stack.enter_context(places.taken_by(principal))
        except TooManyWaitersError:
            return taken
        taken += 1


@pytest.mark.parametrize(("limit", "expected"), [(1, 1), (2, 1), (3, 2), (2_000, 1_000)])
def test_a_principal_alone_gets_half_of_the_places(limit: int, expected: int) -> None:
    with ExitStack() as stack:
        assert take_all(WaitingPlaces(limit), stack, "greedy") == expected


def test_each_greedy_principal_leaves_places_for_the_next_one() -> None:
    places = WaitingPlaces(64)
    with ExitStack() as stack:
        assert [take_all(places, stack, name) for name in "abcdef"] == [32, 16, 8, 4, 2, 1]


def test_a_place_that_is_left_can_be_taken_again() -> None:
    places = WaitingPlaces(2)
    for _ in range(3):
        with places.taken_by("one"):
            assert places.are_taken
            with pytest.raises(TooManyWaitersError), places.taken_by("one"):
                pass
        assert not places.are_taken
