"""The cost of a pool's size and of its leased share: pools of one database under the same load."""

from functools import partial

from benchmarks.database import settle
from benchmarks.farm import Farm, running_farm
from benchmarks.filling import hold_users
from benchmarks.plan import Plan
from benchmarks.reaping import measure_reaping
from benchmarks.run import Row, Run
from benchmarks.throughput import load_row

_CONNECTIONS = 64


def measure_pools(run: Run) -> None:
    plan = run.plan
    with running_farm(run.postgres, "large") as farm:
        users = sum(plan.pool_sizes) + plan.filled_pool * len(plan.filled_percents)
        run.say(f"filling pools with {users:,} users")
        _fill(farm, plan)
        names = [f"pool-{size}" for size in plan.pool_sizes] + [
            f"leased-{part}" for part in plan.filled_percents
        ]
        rows: list[Row] = [
            (name, partial(load_row, run, name, farm, name, connections=_CONNECTIONS)) for name in names
        ]
        run.measure_in_rounds(rows, rounds=plan.rounds)
        run.say(f"reaping {plan.expired:,} leases")
        run.measure("reaping", lambda: measure_reaping(farm, run))


def _fill(farm: Farm, plan: Plan) -> None:
    for size in plan.pool_sizes:
        farm.add_pool(f"pool-{size}", size)
    for percent in plan.filled_percents:
        project_id = farm.add_pool(f"leased-{percent}", plan.filled_pool)
        hold_users(farm.database_url, project_id, percent=percent)
    settle(farm.database_url)
