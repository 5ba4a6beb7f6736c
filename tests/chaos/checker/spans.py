"""Spans of time, to ask whether one of many meets another."""

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate


class Spans:
    def __init__(self, spans: Iterable[tuple[float, float]]) -> None:
        in_order = sorted(spans)
        self._begins = [begin for begin, _ in in_order]
        self._latest_ends = list(accumulate((end for _, end in in_order), max))

    def meet(self, since: float, until: float) -> bool:
        begun = bisect_right(self._begins, until)
        return begun > 0 and self._latest_ends[begun - 1] >= since
