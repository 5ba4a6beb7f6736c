"""How much is measured: the whole run, a shorter run, or a smoke test of the harness."""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
CONNECTIONS = (1, 64, 256)


@dataclass(frozen=True, slots=True)
class Plan:
    rounds: int = 3
    seconds: int = 5
    """Duration of each throughput measurement, after one second of warm-up."""
    compared_connections: tuple[int, ...] = CONNECTIONS
    """Numbers of connections of the rows for comparison."""
    log_level_processes: int = 6
    """Processes of each log level, with two rounds each: many, because the levels differ by a few percent."""
    pool_sizes: tuple[int, ...] = (1_000, 100_000, 1_000_000)
    filled_pool: int = 100_000
    """Users in each pool that is partly leased."""
    filled_percents: tuple[int, ...] = (10, 90, 99)
    waiters: int = 1_000
    idle_seconds: int = 10
    wakes: int = 1_000
    """Hand-overs, enough for a p99."""
    pages: int = 300
    """Open pages at one process."""
    grants: int = 10_000
    """Grants of the fairness row."""
    expired: int = 100_000
    memory_pairs: int = 200_000
    memory_pairs_before: int = 10_000
    publish: bool = True
    """Whether results go to benchmarks/results.json and docs/. Otherwise they go to .bench/."""

    @property
    def results(self) -> Path:
        return CHECKOUT / "benchmarks/results.json" if self.publish else CHECKOUT / ".bench/results.json"

    @property
    def page(self) -> Path:
        return CHECKOUT / "docs/benchmarks.md" if self.publish else CHECKOUT / ".bench/benchmarks.md"

    @property
    def plot(self) -> Path:
        return self.page.parent / "benchmarks/throughput-and-latency.png"


_SMOKE = Plan(
    rounds=1,
    seconds=1,
    compared_connections=(64,),
    log_level_processes=1,
    pool_sizes=(1_000, 20_000),
    filled_pool=10_000,
    filled_percents=(10, 90),
    waiters=100,
    idle_seconds=1,
    wakes=20,
    pages=30,
    grants=300,
    expired=10_000,
    memory_pairs=2_000,
    memory_pairs_before=200,
    publish=False,
)


def read_plan() -> Plan:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measures this farm against itself."
    )
    parser.add_argument("--smoke", action="store_true", help="test the harness, not the farm, in two minutes")
    parser.add_argument("--rounds", type=int, help="number of rounds; results are medians over them")
    parser.add_argument("--seconds", type=int, help="duration of each throughput measurement")
    parser.add_argument("--grants", type=int, help="grants of the fairness row")
    given = vars(parser.parse_args())
    plan = _SMOKE if given.pop("smoke") else Plan()
    return replace(plan, **{name: value for name, value in given.items() if value is not None})
