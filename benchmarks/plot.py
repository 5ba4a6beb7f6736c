"""Plots throughput, and p50 and p99 of acquires, over the number of connections, from the rows of the run."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks.plan import CONNECTIONS
from benchmarks.results import Results

_SERVICES = {
    "http": ("botfarm", "tab:blue"),
    "uncoalesced": ("without coalescing", "tab:orange"),
    "plain": ("read, then update", "tab:gray"),
}


def draw(results: Results, path: Path) -> None:
    figure, (throughput, latency) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for service, (label, color) in _SERVICES.items():
        _line(throughput, results, service, "pairs_per_second", label=label, color=color)
        _line(latency, results, service, "acquire_p50_ms", label=f"{label}, p50", color=color)
        _line(latency, results, service, "acquire_p99_ms", label=f"{label}, p99", color=color, linestyle="--")
    ceiling = max(results.median(name, "pairs_per_second") or 0 for name in ("pgbench", "pgbench-single"))
    if ceiling:
        throughput.axhline(ceiling, color="black", linestyle=":", label="pgbench at its best, 64 clients")
    throughput.set(ylabel="acquire + release pairs in a second", title="Throughput")
    throughput.set_ylim(bottom=0)
    latency.set(ylabel="milliseconds", title="Acquire", yscale="log")
    for axes in (throughput, latency):
        axes.set_xscale("log", base=2)
        axes.set_xticks(CONNECTIONS, [str(each) for each in CONNECTIONS])
        axes.set_xlabel("connections")
        axes.grid(visible=True, alpha=0.3)
        axes.legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _line(axes: Axes, results: Results, service: str, value: str, **style: Any) -> None:
    points = [(each, results.median(f"{service}-{each}", value)) for each in CONNECTIONS]
    measured = [(connections, found) for connections, found in points if found is not None]
    if measured:
        axes.plot(*zip(*measured, strict=True), marker="o", **style)
