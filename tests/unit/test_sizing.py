"""The size of a pool that keeps a goal on the worst of several days."""

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botfarm.domain.capacity import WaitGoal
from botfarm.services.usage.erlang import erlang_c
from botfarm.services.usage.replay import Request, Users
from botfarm.services.usage.sizing import DAY, scaled, size_pool, split_into_days

ANY, RARE = 0, 1
ALIKE = {frozenset({ANY}): 4}
MIXED = {frozenset({ANY}): 1, frozenset({ANY, RARE}): 1}


def burst(day: int, size: int, *, hold: float = 60, rest: float = 0, **wanted: int) -> list[Request]:
    """Requests that come at once, at ten o'clock."""
    return [Request(day * DAY + 36_000, hold, hold + rest, **wanted) for _ in range(size)]


def keeps(requests: list[Request], users: Users, goal: WaitGoal, size: int) -> bool:
    """Whether every day, replayed, keeps the goal."""
    if size == 0:
        return False
    waits = [day.waits_in(size, users) for day in split_into_days(requests)]
    return all(
        sum(wait > goal.seconds for wait in of_day) <= (1 - goal.quantile) * len(of_day) + 1e-9
        for of_day in waits
    )


def test_the_worst_day_decides() -> None:
    requests = [*burst(0, 4), *burst(1, 16), *burst(2, 8)]
    sizing = size_pool(requests, ALIKE, WaitGoal(), until=3 * DAY)
    assert (sizing.needed, sizing.worst_day) == (16, DAY)
    by_size = {size.users: size for size in sizing.sizes}
    assert by_size[16].share_over_goal == 0
    assert by_size[15].share_over_goal == round(1 / 16, 4)
    assert (by_size[15].p50, by_size[15].p95, by_size[15].p99) == (0, 60, 60)
    assert 4 in by_size, "the users in service"


def test_a_longer_goal_or_a_smaller_quantile_needs_fewer_users() -> None:
    requests = burst(0, 16)
    assert size_pool(requests, ALIKE, WaitGoal(60), until=DAY).needed == 8
    assert size_pool(requests, ALIKE, WaitGoal(quantile=0.5), until=DAY).needed == 8
    assert size_pool(requests, ALIKE, WaitGoal(0), until=DAY).needed == 16


def test_rest_costs_users() -> None:
    requests = [*burst(0, 4), *(Request(36_070, 60, 60) for _ in range(4))]
    assert size_pool(requests, ALIKE, WaitGoal(), until=DAY).rest_costs == 0
    rested = [Request(each.arrival, each.hold, each.hold + 60) for each in requests]
    sizing = size_pool(rested, ALIKE, WaitGoal(), until=DAY)
    assert (sizing.needed, sizing.rest_costs) == (8, 4)


def test_a_lease_that_lasts_beyond_midnight_is_there_on_the_next_day() -> None:
    requests = [Request(DAY - 60, 3_600, 3_600), Request(DAY + 60, 60, 60)]
    assert size_pool(requests, ALIKE, WaitGoal(), until=2 * DAY).needed == 2


def test_holds_occupy_users_and_their_waits_do_not_count() -> None:
    held = [Request(0, DAY, DAY, is_test=False), *burst(0, 2)]
    sizing = size_pool(held, ALIKE, WaitGoal(), until=DAY)
    assert sizing.needed == 3
    assert (
        size_pool([*burst(0, 2), Request(36_001, 60, 60, is_test=False)], ALIKE, WaitGoal(), until=DAY).needed
        == 2
    )


def test_a_request_that_no_pool_of_these_labels_could_serve_leaves_no_answer() -> None:
    never = {frozenset({ANY}): 1_000, frozenset({RARE}): 1}
    sizing = size_pool(burst(0, 1, wanted=RARE, count=100), never, WaitGoal(), until=DAY)
    assert (sizing.needed, sizing.rest_costs) == (None, None)
    assert [(size.users, size.p95, size.share_over_goal) for size in sizing.sizes] == [(1_001, None, 1)]


def test_users_are_added_and_removed_in_proportion_to_their_labels() -> None:
    users = {frozenset({ANY}): 8, frozenset({RARE}): 2}
    assert scaled(users, 10) == users
    assert scaled(users, 20) == {frozenset({ANY}): 16, frozenset({RARE}): 4}
    assert scaled(users, 3) == {frozenset({ANY}): 2, frozenset({RARE}): 1}
    assert scaled(users, 1) == {frozenset({ANY}): 1}


COUNTS = st.dictionaries(
    st.frozensets(st.integers(0, 3), max_size=3), st.integers(1, 40), min_size=1, max_size=5
)


@given(COUNTS, st.integers(1, 200))
def test_a_scaled_pool_has_the_size_and_keeps_every_kind(users: dict[frozenset[int], int], size: int) -> None:
    pool = scaled(users, size)
    assert sum(pool.values()) == size
    assert len(pool) == min(size, len(users))
    assert scaled(users, sum(users.values())) == users


@st.composite
def histories(draw: st.DrawFn, *, labels: int, are_alike: bool = False) -> list[Request]:
    """Of one or two users each; when they are alike, all of one or all of two."""
    counts = st.integers(1, 2)
    made = st.builds(
        lambda day, at, hold, wanted, count: Request(day * DAY + at, hold, hold, wanted, count),
        st.integers(0, 2),
        st.integers(0, 300),
        st.integers(1, 100),
        st.integers(0, labels - 1),
        st.just(draw(counts)) if are_alike else counts,
    )
    return sorted(draw(st.lists(made, min_size=1, max_size=30)), key=lambda request: request.arrival)


GOALS = st.builds(WaitGoal, st.integers(0, 60), st.sampled_from([0.5, 0.9, 0.95]))


@settings(deadline=None, max_examples=50)
@given(histories(labels=1, are_alike=True), GOALS)
def test_when_all_ask_alike_it_is_the_smallest_size(requests: list[Request], goal: WaitGoal) -> None:
    """A pool that is too small for a request of two serves the others sooner than a larger one may."""
    needed = size_pool(requests, ALIKE, goal, until=3 * DAY).needed
    assert needed == next(size for size in range(1, 100) if keeps(requests, ALIKE, goal, size))


@settings(deadline=None, max_examples=50)
@given(histories(labels=2), GOALS)
def test_with_labels_it_keeps_the_goal_and_one_user_less_does_not(
    requests: list[Request], goal: WaitGoal
) -> None:
    needed = size_pool(requests, MIXED, goal, until=3 * DAY).needed
    assert needed is not None
    assert keeps(requests, MIXED, goal, needed)
    assert not keeps(requests, MIXED, goal, needed - 1)


@pytest.mark.parametrize(("load", "expected"), [(6, 11), (0, 1), (0.5, 3)])
def test_erlang_c_as_in_its_tables(load: float, expected: int) -> None:
    assert erlang_c(load=load, service=360, goal=30, quantile=0.95) == expected


def test_erlang_c_with_the_goals_that_could_break_a_formula() -> None:
    assert erlang_c(load=6, service=360, goal=0, quantile=0.95) == 11
    assert erlang_c(load=0, service=0, goal=0, quantile=0.999999) == 1
    assert erlang_c(load=6, service=360, goal=inf, quantile=0.95) == 7
