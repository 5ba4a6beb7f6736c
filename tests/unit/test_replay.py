"""A replay gives each request the wait that the farm's order gives it, in pools of any size."""

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from botfarm.services.usage.replay import Request, replay

ANY = 0


def users(number: int) -> dict[frozenset[int], int]:
    return {frozenset({ANY}): number}


def asked(arrival: float, hold: float = 60, rest: float = 0, **wanted: int) -> Request:
    return Request(arrival, hold, hold + rest, **wanted)


def test_a_request_waits_until_a_lease_before_it_has_ended() -> None:
    assert replay([asked(0), asked(10), asked(20)], users(1)) == [0, 50, 100]
    assert replay([asked(0), asked(10), asked(20)], users(2)) == [0, 0, 40]


def test_a_user_is_free_after_its_rest() -> None:
    requests = [asked(0, hold=60, rest=15), asked(10)]
    assert replay(requests, users(1)) == [0, 65]
    assert replay(requests, users(1), resting=False) == [0, 50]


def test_a_user_that_is_free_when_a_request_comes_is_granted_at_once() -> None:
    assert replay([asked(0), asked(60)], users(1)) == [0, 0]


def test_a_big_count_reserves_users() -> None:
    requests = [asked(0, hold=100), asked(1, hold=50), asked(2, count=2), asked(3)]
    assert replay(requests, users(2)) == [0, 0, 98, 157]


def test_a_priority_goes_first_unless_others_have_waited_for_long() -> None:
    assert replay([asked(0), asked(1), asked(2, priority=1)], users(1)) == [0, 119, 58]
    assert replay([asked(0, hold=100), asked(1), asked(62, priority=1)], users(1)) == [0, 99, 98]


def test_what_is_no_test_waits_behind_all_tests() -> None:
    hold = Request(1, 60, 60, is_test=False)
    assert replay([asked(0), hold, asked(30)], users(1)) == [0, 119, 30]


def test_a_request_for_more_users_than_there_are_waits_for_ever_and_holds_up_nobody() -> None:
    assert replay([asked(0), asked(1, count=3), asked(2)], users(2)) == [0, inf, 0]


RARE = 1
MIXED = {frozenset({ANY}): 1, frozenset({ANY, RARE}): 1}


def test_labels_hold_up_only_requests_for_the_same_users() -> None:
    requests = [asked(0, wanted=RARE), asked(1, wanted=RARE), asked(2)]
    assert replay(requests, MIXED) == [0, 59, 0]


def test_a_free_user_of_a_rare_kind_is_kept_for_the_request_that_waits_for_it() -> None:
    requests = [asked(0, hold=100), asked(1, hold=50, wanted=RARE), asked(2, wanted=RARE), asked(3)]
    assert replay(requests, MIXED) == [0, 0, 49, 97]


REQUESTS = st.lists(
    st.builds(
        lambda arrival, hold, rest, count: asked(arrival, hold, rest, count=count),
        st.integers(0, 300),
        st.integers(0, 100),
        st.integers(0, 20),
        st.integers(1, 3),
    ),
    max_size=40,
).map(lambda requests: sorted(requests, key=lambda request: request.arrival))


@given(REQUESTS, st.integers(3, 8), st.integers(1, 8))
def test_more_users_never_make_a_wait_longer_when_all_ask_alike(
    requests: list[Request], fewer: int, more: int
) -> None:
    waits = zip(replay(requests, users(fewer + more)), replay(requests, users(fewer)), strict=True)
    assert all(shorter <= longer for shorter, longer in waits)


def test_with_labels_more_users_can_make_a_wait_longer() -> None:
    """So the search for a size must not trust that a larger size keeps what a smaller one does."""
    requests = [asked(10, 100), asked(40, 20), asked(40, 50), asked(40, 100), asked(50, 100, wanted=RARE)]
    assert replay(requests, MIXED) == [0, 0, 20, 70, 60]
    assert replay(requests, {**MIXED, frozenset({ANY}): 2}) == [0, 0, 0, 20, 110]


@given(REQUESTS, st.integers(1, 8))
def test_no_more_users_are_in_use_than_there_are(requests: list[Request], size: int) -> None:
    waits = replay(requests, users(size))
    granted = [
        (request, request.arrival + wait) for request, wait in zip(requests, waits, strict=True) if wait < inf
    ]
    for _, moment in granted:
        in_use = sum(request.count for request, since in granted if since <= moment < since + request.out)
        assert in_use <= size


@given(REQUESTS, st.integers(3, 8))
def test_the_same_requests_always_wait_alike(requests: list[Request], size: int) -> None:
    assert replay(requests, users(size)) == replay(list(requests), users(size))
