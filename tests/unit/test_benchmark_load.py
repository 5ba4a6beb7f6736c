"""The benchmark serves as many pairs as its memory row claims, on a slow machine too."""

import itertools
import time

import pytest

from benchmarks.throughput import serve_until


def test_a_slow_machine_gets_the_time_that_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    hours = itertools.count(step=3600)
    monkeypatch.setattr(time, "monotonic", lambda: float(next(hours)))
    served = [0]

    def load() -> None:
        served[0] += 10

    serve_until(95, served=lambda: served[0], load=load)
    assert served == [100]


def test_a_process_that_serves_nothing_under_load_is_reported() -> None:
    counts = iter([0, 10, 10])
    with pytest.raises(RuntimeError, match="stays at 10 of 95 pairs"):
        serve_until(95, served=lambda: next(counts), load=lambda: None)


def test_no_load_is_added_when_enough_has_been_served() -> None:
    serve_until(95, served=lambda: 200, load=lambda: pytest.fail("more load than asked for"))
