"""The benchmark, `make bench` or `python -m benchmarks --help`. `main` reads from top to bottom."""

import signal
import sys
import time
from functools import partial

from benchmarks.database import durability, fetch_value, running_postgres
from benchmarks.machine import describe_machine, describe_versions
from benchmarks.pages import measure_pages
from benchmarks.plan import read_plan
from benchmarks.plot import draw
from benchmarks.pools import measure_pools
from benchmarks.processes import allow_many_files
from benchmarks.ratios import compute_ratios
from benchmarks.report import Report
from benchmarks.results import Results
from benchmarks.run import Run
from benchmarks.throughput import measure_throughput
from benchmarks.tools import find_tools
from benchmarks.waiting import measure_waiting


def main() -> int:
    plan = read_plan()
    tools = find_tools()
    allow_many_files()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # runs the clean-ups
    results = Results()
    started = time.monotonic()
    with running_postgres() as postgres:
        settings = durability(postgres.url)
        machine = describe_machine(postgres.folder)
        versions = describe_versions(tools, str(fetch_value(postgres.url, "SHOW server_version")))
        print(
            f"PostgreSQL with fsync {settings['fsync']}; API and worker at their default log level",
            flush=True,
        )
        run = Run(plan, tools, postgres, results)
        for measure in (measure_throughput, measure_pools, measure_waiting, measure_pages):
            run.say(measure.__name__)
            run.measure(measure.__name__, partial(measure, run))
    ratios = compute_ratios(results, plan)
    report = Report(plan, results, ratios, machine, versions, settings, time.monotonic() - started)
    print("\n" + report.text())
    report.write()
    draw(results, plan.plot)
    print(f"\nWritten: {plan.results}, {plan.page}, {plan.plot}")
    return 1 if results.failed else 0


if __name__ == "__main__":
    sys.exit(main())
