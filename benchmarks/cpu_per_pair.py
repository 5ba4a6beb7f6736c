"""Processor time per pair of one API process: `python -m benchmarks.cpu_per_pair --help`.

It compares two states of the code on a machine that is not idle. Other processes there change how long a pair takes,
and less how much processor time it needs. With `--against` windows of both states alternate, so that what disturbs
one disturbs the other. A difference of less than two standard errors is none: take more seconds.
"""

import argparse
import math
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.database import Postgres, running_postgres, settle
from benchmarks.farm import Farm, running_farm
from benchmarks.load import Wrk
from benchmarks.machine import context_switches, cpu_seconds, tree_cpu_seconds
from benchmarks.plan import CHECKOUT
from benchmarks.processes import allow_many_files, program_of
from benchmarks.profiling import find_sampler, profile
from benchmarks.tools import find_tools

_POOL = "shop"
_WARM_UP = 1
_WINDOW = 2
"""Seconds: long enough for the ticks of 10 ms in which the kernel counts."""


@dataclass(frozen=True, slots=True)
class _Use:
    """What has been used since the processes started."""

    pairs: int
    api_cpu: float
    postgres_cpu: float
    switches: int
    batches: tuple[float, float]

    def per_pair_since(self, before: "_Use") -> dict[str, float]:
        pairs = self.pairs - before.pairs
        return {
            "API, µs": (self.api_cpu - before.api_cpu) / pairs * 1e6,
            "PostgreSQL, µs": (self.postgres_cpu - before.postgres_cpu) / pairs * 1e6,
            "context switches of the API": (self.switches - before.switches) / pairs,
            "requests in a batch": (self.batches[0] - before.batches[0])
            / (self.batches[1] - before.batches[1]),
        }


@dataclass(frozen=True, slots=True)
class _Measurement:
    wrk: str
    connections: int
    postgres: Postgres

    def window(self, farm: Farm) -> dict[str, float]:
        with self.load(farm, seconds=_WINDOW):
            before = self._use(farm)
            time.sleep(_WINDOW)
            return self._use(farm).per_pair_since(before)

    @contextmanager
    def load(self, farm: Farm, *, seconds: int) -> Iterator[None]:
        """Load that is warm. `seconds` are how long it is wanted. Raises RuntimeError for a refused request."""
        load = Wrk(
            self.wrk,
            ports=farm.ports,
            token=farm.token,
            project=_POOL,
            connections=self.connections,
            count=1,
            seconds=_WARM_UP + seconds + 60,
        )
        try:
            time.sleep(_WARM_UP)
            yield
        finally:
            failure = load.stop().failure
            farm.clear()
        if failure:
            raise RuntimeError(f"the first refused request: {failure}")

    def _use(self, farm: Farm) -> _Use:
        (api,) = farm.apis
        pid = api.process.pid
        return _Use(
            pairs=api.pairs(),
            api_cpu=cpu_seconds(pid),
            postgres_cpu=tree_cpu_seconds(self.postgres.pid),
            switches=context_switches(pid),
            batches=api.batch_size() or (0, 0),
        )


def main() -> None:
    options = _read_options()
    wrk = find_tools().wrk
    sampler = find_sampler() if options.profile else ""
    allow_many_files()
    checkouts = [CHECKOUT, *([options.against.resolve()] if options.against else [])]
    with running_postgres() as postgres, ExitStack() as farms:
        measurement = _Measurement(wrk, options.connections, postgres)
        sides = [
            farms.enter_context(_running(postgres, checkout, number, options))
            for number, checkout in enumerate(checkouts)
        ]
        windows: list[list[dict[str, float]]] = [[] for _ in sides]
        for number in range(max(1, options.seconds // _WINDOW)):
            order = list(zip(sides, windows, strict=True))
            for farm, measured in order if number % 2 == 0 else reversed(order):
                measured.append(measurement.window(farm))
        _print(checkouts, windows)
        if options.profile:
            with measurement.load(sides[0], seconds=options.seconds):
                pid = sides[0].apis[0].process.pid
                profile(pid, options.profile, sampler=sampler, seconds=options.seconds)


@contextmanager
def _running(postgres: Postgres, checkout: Path, number: int, options: argparse.Namespace) -> Iterator[Farm]:
    with running_farm(
        postgres, f"farm_{number}", replicas=1, program=program_of(checkout), log_level=options.log_level
    ) as farm:
        farm.add_pool(_POOL, options.users)
        settle(farm.database_url)
        yield farm


def _print(checkouts: list[Path], windows: list[list[dict[str, float]]]) -> None:
    for checkout, measured in zip(checkouts, windows, strict=True):
        print(f"{checkout}: per pair, in {len(measured)} windows of {_WINDOW} s")
        for name in measured[0]:
            values = [window[name] for window in measured]
            print(f"  {name}: least {min(values):,.4g}, median {statistics.median(values):,.4g}")
    if len(windows) > 1:
        print("this checkout ÷ the other, the mean of the windows and its standard error")
        for name in windows[0][0]:
            logs = [math.log(one[name] / other[name]) for one, other in zip(*windows, strict=True)]
            error = statistics.stdev(logs) / math.sqrt(len(logs)) if len(logs) > 1 else math.nan
            print(f"  {name}: {math.exp(statistics.mean(logs)):.3f} ± {error:.3f}")


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cpu_per_pair", description="Measures the processor time of a pair."
    )
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--users", type=int, default=1_000, help="of the pool")
    parser.add_argument("--log-level", default="INFO", choices=["INFO", "WARNING"])
    parser.add_argument("--seconds", type=int, default=20, help="to measure, and to profile")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="compare with this one, in turn")
    parser.add_argument("--profile", type=Path, metavar="FILE", help="also sample the stacks of the API")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
