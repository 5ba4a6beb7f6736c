"""What a pool's size, and how much of it is leased, cost: pools of one database, with the same load."""

from functools import partial

from benchmarks.database import Postgres, settle
from benchmarks.farm import Farm, running_farm
from benchmarks.filling import hold_users
from benchmarks.plan import Plan
from benchmarks.reaping import measure_reaping
from benchmarks.results import Results
from benchmarks.throughput import Measurement, load_row, measure_in_rounds
from benchmarks.tools import Tools

_CONNECTIONS = 64


def measure_pools(postgres: Postgres, tools: Tools, plan: Plan, results: Results) -> None:
    with running_farm(postgres, "large") as farm:
        _fill(farm, plan)
        load = partial(load_row, postgres, tools, plan, results)
        names = [f"pool-{size}" for size in plan.pool_sizes] + [f"leased-{part}" for part in plan.filled_percents]
        rows: list[Measurement] = [(name, partial(load, name, farm, name, _CONNECTIONS)) for name in names]
        measure_in_rounds(rows, plan, results)
        try:
            measure_reaping(farm, tools, plan, results)
        except Exception as error:  # noqa: BLE001  the other rows are still worth their time
            results.fail("reaping", error)


def _fill(farm: Farm, plan: Plan) -> None:
    users = sum(plan.pool_sizes) + plan.filled_pool * len(plan.filled_percents)
    print(f"filling pools with {users:,} users", flush=True)
    for size in plan.pool_sizes:
        farm.add_pool(f"pool-{size}", size)
    for percent in plan.filled_percents:
        project_id = farm.add_pool(f"leased-{percent}", plan.filled_pool)
        hold_users(farm.database_url, project_id, percent=percent)
    settle(farm.database_url)
