"""Quantiles of waits, the time in quarantine, and for how long a count of users in service holds."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botfarm.db.usage.lease_stats_queries import StatusEvent
from botfarm.domain.usage import WAIT_BOUNDS, Step, UsageFigures, Waits
from botfarm.services.usage.lease_stats import quarantined_for
from botfarm.services.usage.rolling_up import LONGEST_GAP, observed_parts


def at(hour: int, minute: int = 0, second: int = 0) -> datetime:
    return datetime.fromisoformat(f"2026-11-28T{hour:02}:{minute:02}:{second:02}Z")


def waits_of(*waits: float) -> Waits:
    counts = [0] * (len(WAIT_BOUNDS) + 1)
    for wait in waits:
        counts[sum(wait >= bound for bound in WAIT_BOUNDS)] += 1
    return Waits(counts, max(waits, default=0))


def bucket_of(wait: float) -> tuple[float, float]:
    bounds = [0.0, *WAIT_BOUNDS, float("inf")]
    place = sum(wait >= bound for bound in WAIT_BOUNDS)
    return bounds[place], bounds[place + 1]


@settings(deadline=None)
@given(st.lists(st.floats(0, 10_000), min_size=1), st.sampled_from([0.5, 0.95, 0.99, 1.0]))
def test_a_quantile_is_in_the_bucket_of_the_wait_that_it_stands_for(waits: list[float], share: float) -> None:
    found = waits_of(*waits).quantile(share)
    assert found is not None
    ordered = sorted(waits)
    place = max(0, -int(-share * len(ordered) // 1) - 1)
    low, high = bucket_of(ordered[place])
    assert low <= found <= min(high, ordered[-1]) or found == ordered[-1]


@settings(deadline=None)
@given(st.lists(st.floats(0, 10_000), min_size=1))
def test_quantiles_rise_and_never_exceed_the_longest_wait(waits: list[float]) -> None:
    found = waits_of(*waits)
    quantiles = [found.p50, found.p95, found.p99, found.max]
    assert None not in quantiles
    assert quantiles == sorted(quantiles, key=lambda each: each or 0)


def test_without_waits_there_is_no_quantile() -> None:
    assert (Waits().p50, Waits().p99, Waits().max) == (None, None, None)


def test_a_pool_without_users_in_service_has_no_utilisation() -> None:
    assert UsageFigures(observed_busy_seconds=5).utilisation is None
    assert UsageFigures(observed_busy_seconds=5, in_service_seconds=10).utilisation == 0.5


def test_outcomes_add_up_whatever_their_reasons() -> None:
    figures = UsageFigures(ends={"broken:captcha": 2, "broken": 1, "dirty:captcha": 1, "expired": 4})
    assert {name: users for name, users in figures.outcomes.items() if users} == {
        "broken": 3,
        "dirty": 1,
        "expired": 4,
    }
    assert figures.reasons == {"captcha": 3}


def test_a_day_begins_at_midnight_of_utc() -> None:
    assert Step.DAY.floor(at(23, 59)) == at(0)
    assert Step.HOUR.floor(at(23, 59)) == at(23)


@pytest.mark.parametrize(
    ("last", "now", "parts"),
    [
        (None, at(10, 1), [(10, 0)]),
        (at(10), at(10, 1), [(10, 60)]),
        (at(9, 59, 30), at(10, 0, 30), [(9, 30), (10, 30)]),
        (at(9, 59, 30), at(10), [(9, 30), (10, 0)]),
        (at(10), at(10) + LONGEST_GAP, [(10, LONGEST_GAP.total_seconds())]),
        (at(10), at(10, 0, 1) + LONGEST_GAP, [(10, 0)]),
        (at(10, 30), at(10, 10), []),  # the clock was stepped back
        (at(10, 30), at(10, 30), []),
    ],
)
def test_a_count_holds_back_to_the_last_one_unless_that_was_too_long_ago(
    last: datetime | None, now: datetime, parts: list[tuple[int, float]]
) -> None:
    assert [(each.hour.hour, each.seconds) for each in observed_parts(last, now)] == parts


def quarantine(moment: datetime, until: datetime | None = None) -> StatusEvent:
    return StatusEvent(moment, "quarantine_user", until)


@pytest.mark.parametrize(
    ("events", "hours"),
    [
        ([], 0),
        ([quarantine(at(10))], 10),
        ([quarantine(at(6))], 12),
        ([quarantine(at(10)), StatusEvent(at(12), "restore_user")], 2),
        ([quarantine(at(10)), StatusEvent(at(12), "retire_user")], 2),
        ([quarantine(at(5)), StatusEvent(at(7), "restore_user")], 0),
        ([quarantine(at(5)), StatusEvent(at(9), "restore_user")], 1),
        ([quarantine(at(10), at(11))], 1),
        ([quarantine(at(10), at(23))], 10),
        ([quarantine(at(10), at(11)), StatusEvent(at(12), "restore_user")], 1),
        ([quarantine(at(10), at(13)), quarantine(at(11))], 10),
        ([quarantine(at(10), at(11)), quarantine(at(12), at(14))], 3),
        ([StatusEvent(at(9), "restore_user"), quarantine(at(19))], 1),
    ],
)
def test_the_time_in_quarantine_is_of_the_window_alone(events: list[StatusEvent], hours: int) -> None:
    assert quarantined_for(events, at(8), at(20)) == timedelta(hours=hours)
