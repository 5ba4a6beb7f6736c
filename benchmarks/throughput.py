"""Pairs of acquire and release per second: ours, ours without coalescing, pgbench, and the plain service."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from uuid import UUID

from benchmarks.ceiling import measure_bare, measure_pgbench, write_server_script, write_single_lease_script
from benchmarks.database import Postgres, settle
from benchmarks.farm import KEY_RING, Farm, has_setting, running_apis, running_farm, running_plain_service
from benchmarks.filling import add_project, add_users
from benchmarks.load import Throughput, measure_pairs
from benchmarks.machine import cpu_seconds, resident_mb, tree_cpu_seconds
from benchmarks.plan import CONNECTIONS
from benchmarks.run import Row, Run

_POOL = "shop"
_PGBENCH_BESIDE = 64
"""pgbench, with this many clients, is measured next to the rows with this many connections."""


def measure_throughput(run: Run) -> None:
    """Measures all rows on pools of the smallest size, then the memory of the processes that served them."""
    with running_farm(run.postgres, "small") as farm, _uncoalesced(farm, run) as uncoalesced:
        project_id = farm.add_pool(_POOL, run.plan.pool_sizes[0])
        settle(farm.database_url)
        with _plain(run) as plain:
            _serve_until(farm, run.plan.memory_pairs_before, run)
            before = _memory(farm)
            rows = _rows(run, farm, uncoalesced, plain, project_id=project_id)
            run.measure_in_rounds(rows, rounds=run.plan.rounds)
        _measure_log_levels(farm, run)
        run.measure("memory", lambda: _measure_memory(farm, before, run))


def _rows(run: Run, farm: Farm, uncoalesced: Farm | None, plain: Farm, *, project_id: UUID) -> list[Row]:
    rows: list[Row] = [("bare-acquire", partial(_bare_row, run, farm, project_id))]
    for connections in CONNECTIONS:
        for service, served in (("http", farm), ("uncoalesced", uncoalesced), ("plain", plain)):
            if served and (served is farm or connections in run.plan.compared_connections):
                name = f"{service}-{connections}"
                rows.append((name, partial(load_row, run, name, served, _POOL, connections=connections)))
        if connections == _PGBENCH_BESIDE:
            for name, write in (
                ("pgbench", write_server_script),
                ("pgbench-single", write_single_lease_script),
            ):
                script = run.postgres.folder / f"{name}.sql"
                write(project_id, script)
                rows.append((name, partial(_pgbench_row, run, name, farm, script)))
    count_3 = partial(load_row, run, "http-64-count-3", farm, _POOL, connections=64, count=3)
    return [*rows, ("http-64-count-3", count_3)]


def _measure_log_levels(farm: Farm, run: Run) -> None:
    """Rows at the default level and at WARNING, by processes that have been started for these rows alone.

    Each two rounds have new processes, because one process may need 5 % more processor time than its twin.
    """
    run.say("log levels")
    for _ in range(run.plan.log_level_processes):
        with _beside(farm) as default, _beside(farm, log_level="WARNING") as quiet:
            rows: list[Row] = [
                (name, partial(load_row, run, name, served, _POOL, connections=64))
                for name, served in (("default-level-64", default), ("warning-64", quiet))
            ]
            run.measure_in_rounds(rows, rounds=2)


def _bare_row(run: Run, farm: Farm, project_id: UUID) -> None:
    median, p99 = measure_bare(farm.database_url, project_id, seconds=run.plan.seconds)
    run.results.add("bare-acquire", acquire_p50_ms=median, acquire_p99_ms=p99)


def _pgbench_row(run: Run, name: str, farm: Farm, script: Path) -> None:
    used, started = tree_cpu_seconds(run.postgres.pid), time.monotonic()
    # Three seconds more, because pgbench's duration includes the time to connect, and its rate does not.
    pairs = measure_pgbench(run.tools.pgbench, farm.database_url, script, seconds=run.plan.seconds + 3)
    share = (tree_cpu_seconds(run.postgres.pid) - used) / (time.monotonic() - started)
    run.results.add(name, pairs_per_second=pairs, postgres_cpu=share)
    farm.clear()


def load_row(run: Run, name: str, farm: Farm, project: str, *, connections: int, count: int = 1) -> None:
    batches = [api.batch_size() for api in farm.apis]
    used = _cpu(run.postgres, farm)
    started = time.monotonic()
    measured = _load(run, farm, project, connections=connections, count=count)
    took = time.monotonic() - started
    used = [(after - before) / took for before, after in zip(used, _cpu(run.postgres, farm), strict=True)]
    if measured.failure:
        print(f"  {name}: {measured.failures} refused, the first with {measured.failure}")
    run.results.add(
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
    time.sleep(0.3)  # the server undoes acquires whose caller has gone
    farm.clear()


def _load(run: Run, farm: Farm, project: str, *, connections: int, count: int = 1) -> Throughput:
    return measure_pairs(
        run.tools.wrk,
        ports=farm.ports,
        token=farm.token,
        project=project,
        connections=connections,
        count=count,
        seconds=run.plan.seconds,
    )


def _cpu(postgres: Postgres, farm: Farm) -> list[float]:
    return [sum(cpu_seconds(api.process.pid) for api in farm.apis), tree_cpu_seconds(postgres.pid)]


def _batch_size(before: list[tuple[float, float] | None], farm: Farm) -> dict[str, float]:
    """The mean batch size of this row. Empty for a build without batches."""
    pairs = [
        (then, now) for then, api in zip(before, farm.apis, strict=True) if then and (now := api.batch_size())
    ]
    requests = sum(now[0] - then[0] for then, now in pairs)
    batches = sum(now[1] - then[1] for then, now in pairs)
    return {"batch_size": requests / batches} if batches else {}


@contextmanager
def _uncoalesced(farm: Farm, run: Run) -> Iterator[Farm | None]:
    """A farm on the same database whose processes send one statement for each request."""
    if not has_setting("coalescing"):
        for connections in run.plan.compared_connections:
            run.results.skip(f"uncoalesced-{connections}", "this build has no BOTFARM_COALESCING")
        yield None
        return
    with _beside(farm, coalescing="off") as other:
        yield other


@contextmanager
def _beside(farm: Farm, **settings: object) -> Iterator[Farm]:
    """API processes with other settings on the same database, with the same token."""
    with running_apis(farm.database_url, **settings) as other:
        other.token = farm.token
        yield other


@contextmanager
def _plain(run: Run) -> Iterator[Farm]:
    """The plain service on its own database, so that it does not use the farm's users."""
    url = run.postgres.create_database("plain")
    add_users(url, KEY_RING, add_project(url, _POOL), run.plan.pool_sizes[0])
    settle(url)
    with running_plain_service(url) as plain:
        yield plain


def _memory(farm: Farm) -> list[tuple[int, float]]:
    """Leases granted and resident megabytes of each API process."""
    return [(api.pairs(), resident_mb(api.process.pid)) for api in farm.apis]


def serve_until(pairs: int, *, served: Callable[[], int], load: Callable[[], None]) -> None:
    """Repeats the load until `served` reaches that many pairs, however long a slow machine takes.

    Raises RuntimeError when a whole run of the load serves none.
    """
    reached = served()
    while reached < pairs:
        load()
        before, reached = reached, served()
        if reached <= before:
            raise RuntimeError(f"one process stays at {reached:,} of {pairs:,} pairs under load")


def _serve_until(farm: Farm, pairs: int, run: Run) -> None:
    """Runs load until each process has served that many pairs."""

    def load() -> None:
        _load(run, farm, _POOL, connections=max(CONNECTIONS))
        farm.clear()

    serve_until(pairs, served=lambda: min(api.pairs() for api in farm.apis), load=load)


def _measure_memory(farm: Farm, before: list[tuple[int, float]], run: Run) -> None:
    """Adds the row of memory, after load until each process has served the wanted number of pairs."""
    wanted, reached = run.plan.memory_pairs, min(api.pairs() for api in farm.apis)
    run.say(f"memory: {reached:,} of {wanted:,} pairs served by each process")
    _serve_until(farm, wanted, run)
    after = _memory(farm)
    grown = [now[1] / then[1] for then, now in zip(before, after, strict=True)]
    worst = grown.index(max(grown))
    run.results.add(
        "memory",
        megabytes_before=before[worst][1],
        pairs_before=before[worst][0],
        megabytes_after=after[worst][1],
        pairs_after=after[worst][0],
        growth=grown[worst],
    )
