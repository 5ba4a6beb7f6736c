"""Processor time per pair of one API process: `python -m benchmarks.cpu_per_pair --help`.

It compares two states of the code on a machine that is not idle. Other processes there double the time of a pair,
and raise its processor time by a third at most, because they share caches. Of the windows, compare the least ones.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from benchmarks.database import Postgres, running_postgres, settle
from benchmarks.farm import Farm, running_farm
from benchmarks.load import Wrk
from benchmarks.machine import context_switches, cpu_seconds, tree_cpu_seconds
from benchmarks.processes import allow_many_files
from benchmarks.tools import find_tools

_WARM_UP = 3
_WINDOW = 2
"""Seconds: long enough for the ticks of 10 ms in which the kernel counts."""
_SAMPLES_PER_SECOND = 200
_SHOWN = 30
_CALLS_EVERYTHING = 0.95
"""Functions in a larger share of the samples are left out."""


@dataclass(frozen=True, slots=True)
class _Use:
    """What has been used since the processes started."""

    pairs: int
    api_cpu: float
    postgres_cpu: float
    switches: int

    def per_pair_since(self, before: "_Use") -> dict[str, float]:
        pairs = self.pairs - before.pairs
        return {
            "API, µs": (self.api_cpu - before.api_cpu) / pairs * 1e6,
            "PostgreSQL, µs": (self.postgres_cpu - before.postgres_cpu) / pairs * 1e6,
            "context switches of the API": (self.switches - before.switches) / pairs,
        }


def main() -> None:
    options = _read_options()
    wrk = find_tools().wrk
    allow_many_files()
    with (
        running_postgres() as postgres,
        running_farm(postgres, "farm", replicas=1, log_level=options.log_level) as farm,
    ):
        farm.add_pool("shop", 1_000)
        settle(farm.database_url)
        load = Wrk(
            wrk,
            ports=farm.ports,
            token=farm.token,
            project="shop",
            connections=options.connections,
            count=1,
            seconds=_WARM_UP + (2 if options.profile else 1) * options.seconds + 60,
        )
        try:
            time.sleep(_WARM_UP)
            _measure(farm, postgres, seconds=options.seconds)
            if options.profile:
                _profile(farm.apis[0].process.pid, options.profile, seconds=options.seconds)
        finally:
            failure = load.stop().failure
        if failure:
            sys.exit(f"the first refused request: {failure}")


def _measure(farm: Farm, postgres: Postgres, *, seconds: int) -> None:
    (api,) = farm.apis
    batches, uses = api.batch_size(), [_use(farm, postgres)]
    for _ in range(max(1, seconds // _WINDOW)):
        time.sleep(_WINDOW)
        uses.append(_use(farm, postgres))
    windows = [after.per_pair_since(before) for before, after in pairwise(uses)]
    print(f"{uses[-1].pairs - uses[0].pairs:,} pairs in {len(windows)} windows of {_WINDOW} s; per pair:")
    for name in windows[0]:
        values = [window[name] for window in windows]
        print(
            f"  {name}: least {min(values):,.4g}, median {statistics.median(values):,.4g}, most {max(values):,.4g}"
        )
    if batches and (after := api.batch_size()):
        print(f"  requests in a batch: {(after[0] - batches[0]) / (after[1] - batches[1]):.3g}")


def _use(farm: Farm, postgres: Postgres) -> _Use:
    (api,) = farm.apis
    pid = api.process.pid
    return _Use(api.pairs(), cpu_seconds(pid), tree_cpu_seconds(postgres.pid), context_switches(pid))


def _profile(pid: int, file: Path, *, seconds: int) -> None:
    """Writes stacks with their numbers of samples, as flamegraph.pl and speedscope.app read them."""
    subprocess.run(
        [
            *(
                str(Path(sys.executable).with_name("py-spy")),
                "record",
                "--pid",
                str(pid),
                "--duration",
                str(seconds),
            ),
            *("--rate", str(_SAMPLES_PER_SECOND), "--function", "--format", "raw"),
            *("--output", str(file)),
        ],
        check=True,
        capture_output=True,
    )
    own, whole = Counter[str](), Counter[str]()
    for line in file.read_text().splitlines():
        stack, _, samples = line.rpartition(" ")
        frames = stack.split(";")
        own[frames[-1]] += int(samples)
        whole.update(dict.fromkeys(frames, int(samples)))
    for title, counts in (("of each function itself", own), ("with what it calls", whole)):
        shares = [(samples / own.total(), frame) for frame, samples in counts.most_common()]
        print(f"\nShare of the samples, {title}:")
        for share, frame in [each for each in shares if each[0] < _CALLS_EVERYTHING][:_SHOWN]:
            print(f"  {share:6.1%}  {frame}")


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cpu_per_pair", description="Measures the processor time of a pair."
    )
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--log-level", default="INFO", choices=["INFO", "WARNING"])
    parser.add_argument(
        "--seconds", type=int, default=20, help="duration of the measurement, and of the profile"
    )
    parser.add_argument(
        "--profile", type=Path, metavar="FILE", help="also sample the stacks of the API, by py-spy"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
