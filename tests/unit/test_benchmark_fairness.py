"""The benchmark finds each lease that was overtaken, and by how much."""

import pytest

from benchmarks.fairness import Grant, by_how_much_overtaken


def test_leases_in_the_order_of_their_requests_are_not_overtaken() -> None:
    grants = [Grant(received=1, granted=11), Grant(received=3, granted=13), Grant(received=2, granted=12)]
    assert by_how_much_overtaken(grants) == [0, 0, 0]


def test_a_lease_is_overtaken_by_the_newest_request_that_was_granted_before_it() -> None:
    grants = [
        Grant(received=5, granted=10),
        Grant(received=2, granted=11),
        Grant(received=6, granted=12),
        Grant(received=2.5, granted=13),
    ]
    assert by_how_much_overtaken(grants) == pytest.approx([0, 3, 0, 3.5])


def test_leases_of_one_moment_do_not_overtake_each_other() -> None:
    assert by_how_much_overtaken([Grant(received=1, granted=9), Grant(received=4, granted=9)]) == [0, 0]
