"""The targets of the benchmark. Each is a ratio within one run."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

from typing_extensions import override

from benchmarks.plan import CONNECTIONS, Plan
from benchmarks.results import Results


@dataclass(frozen=True, slots=True)
class Target:
    limit: float | None
    """None for a ratio that is reported without a target."""
    at_least: bool
    what: str
    """A description, with names of the plan's numbers in braces."""

    @override
    def __str__(self) -> str:
        return "" if self.limit is None else f"{'≥' if self.at_least else '≤'} {self.limit:g}"

    def describe(self, plan: Plan) -> str:
        return self.what.format(**asdict(plan), smallest=plan.pool_sizes[0], largest=plan.pool_sizes[-1])

    def is_reached(self, value: float) -> bool | None:
        if self.limit is None:
            return None
        return value >= self.limit if self.at_least else value <= self.limit


def _reported(what: str) -> Target:
    return Target(None, at_least=True, what=what)


def _at_least(limit: float, what: str) -> Target:
    return Target(limit, at_least=True, what=what)


def _at_most(limit: float, what: str) -> Target:
    return Target(limit, at_least=False, what=what)


TARGETS = {
    "http_vs_pgbench": _at_least(
        1.0, "pairs/s over HTTP with 256 connections ÷ pgbench with the server's own statements"
    ),
    "http64_vs_pgbench": _at_least(0.9, "pairs/s over HTTP with 64 connections ÷ the same"),
    "http_vs_pgbench_single": _reported(
        "pairs/s with 256 connections ÷ pgbench with statements for one lease only"
    ),
    "http64_vs_pgbench_single": _at_least(1.0, "pairs/s with 64 connections ÷ the same"),
    "http_vs_plain": _at_least(20, "pairs/s with 256 connections ÷ the plain version at its best"),
    "info_vs_warning": _at_least(
        0.95, "pairs/s with 64 connections at the default log level, to a file ÷ at WARNING"
    ),
    "p99_vs_p50": _at_most(4, "acquire with 64 connections: p99 ÷ median"),
    "single_vs_bare": _at_most(2, "acquire with 1 connection, median ÷ the bare statement through asyncpg"),
    "million_vs_thousand": _at_least(0.8, "pairs/s with a pool of {largest:,} ÷ with {smallest:,}"),
    "full_vs_empty": _at_least(0.8, "pairs/s with 90 % of the pool leased ÷ with 10 %"),
    "idle_waiters_cpu": _at_most(0.02, "{waiters:,} parked waiters: share of a core of their process"),
    "wake_p50": _at_most(
        2, "release sent → waiter at another replica has its answer, median ÷ an acquire's median"
    ),
    "wake_p99": _at_most(2, "the same: p99 ÷ p99 of the same client's acquires"),
    "overtaken": _at_most(
        0, "of {grants:,} leases: those overtaken by a request that was received more than 20 ms later"
    ),
    "open_pages_cpu": _at_most(
        0.05, "{pages:,} open pages of a quiet farm: share of a core of their process"
    ),
    "open_pages_queries": _at_most(
        1.5, "the same: queries a second of their process, beyond those without them"
    ),
    "reap_p99": _at_most(2, "acquire p99 while {expired:,} expired leases are reaped ÷ before"),
    "memory_growth": _at_most(
        1.1, "resident memory after {memory_pairs:,} pairs ÷ after {memory_pairs_before:,}"
    ),
}


_PLAIN = tuple(f"plain-{connections}" for connections in CONNECTIONS)


def compute_ratios(results: Results, plan: Plan) -> dict[str, float | None]:
    """The ratio of each target. None if a row was skipped or failed."""
    pairs = "pairs_per_second"
    smallest, largest = plan.pool_sizes[0], plan.pool_sizes[-1]
    found: dict[str, Callable[[], float | None]] = {
        "http_vs_pgbench": lambda: results.ratio("http-256", pairs, "pgbench", pairs),
        "http64_vs_pgbench": lambda: results.ratio("http-64", pairs, "pgbench", pairs),
        "http_vs_pgbench_single": lambda: results.ratio("http-256", pairs, "pgbench-single", pairs),
        "http64_vs_pgbench_single": lambda: results.ratio("http-64", pairs, "pgbench-single", pairs),
        "http_vs_plain": lambda: results.ratio("http-256", pairs, _best_of(results, _PLAIN), pairs),
        "info_vs_warning": lambda: results.ratio("default-level-64", pairs, "warning-64", pairs),
        "p99_vs_p50": lambda: results.ratio("http-64", "acquire_p99_ms", "http-64", "acquire_p50_ms"),
        "single_vs_bare": lambda: results.ratio("http-1", "acquire_p50_ms", "bare-acquire", "acquire_p50_ms"),
        "million_vs_thousand": lambda: results.ratio(f"pool-{largest}", pairs, f"pool-{smallest}", pairs),
        "full_vs_empty": lambda: results.ratio("leased-90", pairs, "leased-10", pairs),
        "idle_waiters_cpu": lambda: results.median("idle-waiters", "cpu"),
        "wake_p50": lambda: results.ratio("wake", "from_release_sent_p50_ms", "wake", "acquire_p50_ms"),
        "wake_p99": lambda: results.ratio("wake", "from_release_sent_p99_ms", "wake", "acquire_p99_ms"),
        "overtaken": lambda: results.median("fairness", "overtaken"),
        "open_pages_cpu": lambda: results.median("open-pages", "cpu"),
        "open_pages_queries": lambda: results.median("open-pages", "queries_per_second"),
        "reap_p99": lambda: results.median("reaping", "ratio"),
        "memory_growth": lambda: results.median("memory", "growth"),
    }
    return {key: found[key]() for key in TARGETS}


def _best_of(results: Results, names: tuple[str, ...]) -> str:
    """The row with the most pairs per second: the comparison uses the other side at its best."""
    return max(names, key=lambda name: results.median(name, "pairs_per_second") or 0)
