"""wrk with pairs.lua: a number of connections, each in a loop of acquire and release."""

import json
import math
import os
import resource
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.processes import clean_environment

SLICE = 0.25
"""Seconds. Slices are numbered by the monotonic clock, which wrk's script and this process share."""
_FINENESS = 100
"""Buckets of a histogram are powers of e^(1/100) microseconds. Both constants are also in pairs.lua."""
_SCRIPT = str(Path(__file__).with_name("pairs.lua"))
_WARM_UP = 1


@dataclass(slots=True)
class Slice:
    pairs: int = 0
    failures: int = 0
    acquires: Counter[int] = field(default_factory=Counter)
    """Number of acquires in each bucket of durations. Buckets are 1 % wide."""
    releases: Counter[int] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Load:
    """The result of one run of wrk, slice by slice."""

    slices: dict[int, Slice]
    failure: str
    cpu_share: float
    """Share of one core that wrk itself used."""

    def between(self, start: float, end: float) -> Slice:
        """The sum of all whole slices between two times of the monotonic clock."""
        first, last = math.ceil(start / SLICE), math.floor(end / SLICE)
        total = Slice()
        for number in range(first, last):
            if part := self.slices.get(number):
                total.pairs += part.pairs
                total.failures += part.failures
                total.acquires += part.acquires
                total.releases += part.releases
        return total


def milliseconds(histogram: Counter[int], share: float) -> float:
    """The percentile `share` (0.99 for p99) of a histogram, in milliseconds. NaN for an empty histogram."""
    wanted = share * histogram.total()
    for bucket in sorted(histogram):
        wanted -= histogram[bucket]
        if wanted <= 0:
            return math.exp((bucket + 0.5) / _FINENESS) / 1000
    return math.nan


class Wrk:
    """A run of wrk that starts at once. `finish` waits for its end, `stop` ends it early."""

    def __init__(
        self,
        wrk: str,
        *,
        ports: Sequence[int],
        token: str,
        project: str,
        connections: int,
        count: int,
        seconds: int,
    ) -> None:
        body = json.dumps({"project": project, "env": "stage", "count": count})
        ports = ports[:connections]
        self._used_before = _children_cpu()
        self.started = time.monotonic()
        self._process = subprocess.Popen(
            [
                *(wrk, "--threads", str(len(ports)), "--connections", str(connections)),
                *(
                    "--duration",
                    f"{seconds}s",
                    "--timeout",
                    "20s",
                    "--script",
                    _SCRIPT,
                    f"http://127.0.0.1:{ports[0]}",
                ),
            ],
            env={
                **clean_environment(),
                "BENCH_PORTS": ",".join(map(str, ports)),
                "BENCH_TOKEN": token,
                "BENCH_BODY": body,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def stop(self) -> Load:
        os.kill(self._process.pid, signal.SIGINT)
        return self.finish()

    def finish(self) -> Load:
        output, _ = self._process.communicate(timeout=600)
        took = time.monotonic() - self.started
        if self._process.returncode or "\nend" not in output:
            raise RuntimeError(f"wrk failed: {output[-2000:]}")
        return Load(
            slices=_slices(output),
            failure=next((line[8:] for line in output.splitlines() if line.startswith("failure ")), ""),
            cpu_share=(_children_cpu() - self._used_before) / took,
        )


@dataclass(frozen=True, slots=True)
class Throughput:
    pairs_per_second: float
    acquire_p50_ms: float
    acquire_p99_ms: float
    release_p50_ms: float
    release_p99_ms: float
    failures: int
    failure: str
    load_cpu: float


def measure_pairs(
    wrk: str,
    *,
    ports: Sequence[int],
    token: str,
    project: str,
    connections: int,
    count: int = 1,
    seconds: int,
) -> Throughput:
    running = Wrk(
        wrk,
        ports=ports,
        token=token,
        project=project,
        connections=connections,
        count=count,
        seconds=seconds + _WARM_UP,
    )
    load = running.finish()
    start = running.started + _WARM_UP
    end = (max(load.slices, default=0) + 1) * SLICE
    measured = load.between(start, end)
    duration = (math.floor(end / SLICE) - math.ceil(start / SLICE)) * SLICE
    return Throughput(
        pairs_per_second=measured.pairs / duration if duration > 0 else math.nan,
        acquire_p50_ms=milliseconds(measured.acquires, 0.5),
        acquire_p99_ms=milliseconds(measured.acquires, 0.99),
        release_p50_ms=milliseconds(measured.releases, 0.5),
        release_p99_ms=milliseconds(measured.releases, 0.99),
        failures=measured.failures,
        failure=load.failure,
        load_cpu=load.cpu_share,
    )


def _slices(output: str) -> dict[int, Slice]:
    """The slices of all threads, added up. A slice that some thread has not finished is left out."""
    slices: dict[int, Slice] = {}
    last: list[int] = []
    number = 0
    for line in output.splitlines():
        if line == "end":
            last.append(number)
        if line.startswith("slice "):
            _, number_text, pairs, failures, acquires, releases = line.split(" ")
            number = int(number_text)
            part = slices.setdefault(number, Slice())
            part.pairs += int(pairs)
            part.failures += int(failures)
            part.acquires += _histogram(acquires[1:])
            part.releases += _histogram(releases[1:])
    return {number: part for number, part in slices.items() if number <= min(last)}


def _histogram(text: str) -> Counter[int]:
    entries = (entry.split(":") for entry in text.split(",") if entry)
    return Counter({int(bucket): int(count) for bucket, count in entries})


def _children_cpu() -> float:
    """CPU seconds of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
