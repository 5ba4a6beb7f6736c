"""Pairs of acquire and release in a second: ours, ours without coalescing, pgbench, and as it is usually written."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from benchmarks.ceiling import measure_bare, measure_pgbench, write_pgbench_script
from benchmarks.database import Postgres, settle
from benchmarks.farm import Farm, has_setting, running_apis, running_farm, running_plain_service
from benchmarks.load import Throughput, measure_pairs
from benchmarks.machine import cpu_seconds, resident_mb, tree_cpu_seconds
from benchmarks.plan import CONNECTIONS, Plan
from benchmarks.results import Results
from benchmarks.tools import Tools

Measurement = tuple[str, Callable[[], None]]
_POOL = "shop"


def measure_throughput(postgres: Postgres, tools: Tools, plan: Plan, results: Results) -> None:
    """All on pools of the smallest size. Last comes the memory of the processes that served it."""
    with running_farm(postgres, "small") as farm, _uncoalesced(farm, results) as uncoalesced:
        project_id = farm.add_pool(_POOL, plan.pool_sizes[0])
        settle(farm.database_url)
        with _plain(postgres, plan) as plain:
            script = postgres.folder / "pair.sql"
            write_pgbench_script(project_id, script)
            _serve_until(farm, plan.memory_pairs_before, tools, plan)
            before = _memory(farm)

            def pgbench() -> None:
                seconds = plan.seconds + 1
                pairs = measure_pgbench(tools.pgbench, farm.database_url, script, seconds=seconds)
                results.add("pgbench", pairs_per_second=pairs)
                farm.clear()

            def bare() -> None:
                median, p99 = measure_bare(farm.database_url, project_id, seconds=plan.seconds)
                results.add("bare-acquire", acquire_p50_ms=median, acquire_p99_ms=p99)

            load = partial(load_row, postgres, tools, plan, results)
            rows: list[Measurement] = [("bare-acquire", bare)]
            for connections in CONNECTIONS:
                rows.append((f"http-{connections}", partial(load, f"http-{connections}", farm, _POOL, connections)))
                if connections == 64:
                    rows.append(("pgbench", pgbench))
                if uncoalesced:
                    name = f"uncoalesced-{connections}"
                    rows.append((name, partial(load, name, uncoalesced, _POOL, connections)))
                rows.append((f"plain-{connections}", partial(load, f"plain-{connections}", plain, _POOL, connections)))
            rows.append(("http-64-count-3", partial(load, "http-64-count-3", farm, _POOL, 64, count=3)))
            measure_in_rounds(rows, plan, results)
        _measure_memory(farm, before, tools, plan, results)


def measure_in_rounds(rows: Sequence[Measurement], plan: Plan, results: Results) -> None:
    """Forwards, then backwards: what changes with time does not always meet the same row."""
    for number in range(plan.rounds):
        print(f"round {number + 1} of {plan.rounds}", flush=True)
        for name, measure in rows if number % 2 == 0 else reversed(rows):
            try:
                measure()
            except Exception as error:  # noqa: BLE001  the other rows are still worth their time
                results.fail(name, error)


def load_row(
    postgres: Postgres,
    tools: Tools,
    plan: Plan,
    results: Results,
    name: str,
    farm: Farm,
    project: str,
    connections: int,
    *,
    count: int = 1,
) -> None:
    batches = [api.batch_size() for api in farm.apis] if farm.token != PLAIN else []
    used = _cpu(postgres, farm)
    started = time.monotonic()
    measured = _load(farm, tools, project, connections, plan.seconds, count)
    took = time.monotonic() - started
    used = [(after - before) / took for before, after in zip(used, _cpu(postgres, farm), strict=True)]
    if measured.failure:
        print(f"  {name}: {measured.failures} refused, the first one with {measured.failure}")
    results.add(
        name,
        pairs_per_second=measured.pairs_per_second,
        acquire_p50_ms=measured.acquire_p50_ms,
        acquire_p99_ms=measured.acquire_p99_ms,
        release_p50_ms=measured.release_p50_ms,
        release_p99_ms=measured.release_p99_ms,
        failures=measured.failures,
        api_cpu=used[0],
        postgres_cpu=used[1],
        load_cpu=measured.load_cpu,
        **_batch_size(batches, farm),
    )
    time.sleep(0.3)  # those whose answer was not awaited are undone by the server
    farm.clear()


PLAIN = "none-is-asked-for"


def _load(farm: Farm, tools: Tools, project: str, connections: int, seconds: int, count: int = 1) -> Throughput:
    return measure_pairs(
        tools.wrk,
        ports=farm.ports,
        token=farm.token,
        project=project,
        connections=connections,
        count=count,
        seconds=seconds,
    )


def _cpu(postgres: Postgres, farm: Farm) -> list[float]:
    return [sum(cpu_seconds(api.process.pid) for api in farm.apis), tree_cpu_seconds(postgres.pid)]


def _batch_size(before: list[tuple[float, float] | None], farm: Farm) -> dict[str, float]:
    """The mean over this row; nothing for a build that does not batch."""
    if not before or None in before:
        return {}
    pairs = [(then, now) for then, api in zip(before, farm.apis, strict=True) if then and (now := api.batch_size())]
    requests = sum(now[0] - then[0] for then, now in pairs)
    batches = sum(now[1] - then[1] for then, now in pairs)
    return {"batch_size": requests / batches} if batches else {}


@contextmanager
def _uncoalesced(farm: Farm, results: Results) -> Iterator[Farm | None]:
    """The same database and token through processes that send one statement for each request."""
    if not has_setting("coalescing"):
        for connections in CONNECTIONS:
            results.skip(f"uncoalesced-{connections}", "this build has no BOTFARM_COALESCING")
        yield None
        return
    with running_apis(farm.database_url, coalescing="off") as other:
        other.token = farm.token
        yield other


@contextmanager
def _plain(postgres: Postgres, plan: Plan) -> Iterator[Farm]:
    """On a database of its own: its users are not to be ours."""
    with ExitStack() as stack:
        with running_farm(postgres, "plain", replicas=1) as farm:
            farm.add_pool(_POOL, plan.pool_sizes[0])
        settle(farm.database_url)
        yield stack.enter_context(running_plain_service(farm.database_url))


def _memory(farm: Farm) -> list[tuple[int, float]]:
    """Leases granted and resident megabytes of each API process."""
    return [(api.pairs(), resident_mb(api.process.pid)) for api in farm.apis]


def _serve_until(farm: Farm, pairs: int, tools: Tools, plan: Plan, *, patience: float = 150) -> None:
    deadline = time.monotonic() + patience
    while min(api.pairs() for api in farm.apis) < pairs and time.monotonic() < deadline:
        _load(farm, tools, _POOL, max(CONNECTIONS), max(2, plan.seconds))
        farm.clear()


def _measure_memory(
    farm: Farm, before: list[tuple[int, float]], tools: Tools, plan: Plan, results: Results
) -> None:
    """Each process has served every kind of load by now; what is left to the wanted number is added."""
    _serve_until(farm, plan.memory_pairs, tools, plan)
    after = _memory(farm)
    grown = [now[1] / then[1] for then, now in zip(before, after, strict=True)]
    worst = grown.index(max(grown))
    if after[worst][0] < plan.memory_pairs:
        print(f"  memory: only {after[worst][0]:,} pairs of {plan.memory_pairs:,} were served in time")
    results.add(
        "memory",
        megabytes_before=before[worst][1],
        pairs_before=before[worst][0],
        megabytes_after=after[worst][1],
        pairs_after=after[worst][0],
        growth=grown[worst],
    )
