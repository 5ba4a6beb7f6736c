"""How pools were used."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from botfarm_client.commands.shared.farm_access import open_farm
from botfarm_client.commands.shared.lookups import project_id_of
from botfarm_client.commands.shared.options import (
    DEFAULT_URL,
    AsJson,
    MaybeDomain,
    MaybeEnv,
    MaybeProject,
    Url,
    moment_option,
)
from botfarm_client.commands.shared.output import Columns, print_json, print_table
from botfarm_client.commands.stats.cells import percent, wait
from botfarm_client.commands.stats.sparklines import can_be_drawn, sparkline
from botfarm_client.shared.durations import format_duration, format_utc


class Step(StrEnum):
    HOUR = "hour"
    DAY = "day"


def pools(
    *,
    project: MaybeProject = None,
    env: MaybeEnv = None,
    domain: MaybeDomain = None,
    since: Annotated[
        str | None, moment_option("--since", "A time, or 3d for three days ago. Default: 1d, by the day 14d.")
    ] = None,
    until: Annotated[str | None, moment_option("--until", "The same. Default: now.")] = None,
    step: Annotated[Step, typer.Option("--step", help="By the hour or by the day, in UTC.")] = Step.HOUR,
    steps: Annotated[
        bool, typer.Option("--steps", help="A line for each step instead of one for each pool.")
    ] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Show how tests used the pools: requests, waits, utilisation, the most users wanted at once, outcomes."""
    with open_farm(url) as farm:
        items = farm.items(
            "/stats/pools",
            project_id=project_id_of(farm, project),
            env=env,
            domain=domain,
            since=since,
            until=until,
            step=step,
        )
    if as_json:
        print_json({"items": items})
    elif steps:
        print_table(
            {**_POOL, **_AT, **_FIGURES}, [_line(pool, each) for pool in items for each in pool["steps"]]
        )
    else:
        print_table(
            {**_POOL, **_FIGURES, **(_PLOTS if can_be_drawn() else {})},
            [_line(pool, pool["total"]) for pool in items],
        )


def _line(pool: dict[str, Any], figures: dict[str, Any]) -> dict[str, Any]:
    """The figures with the names of their pool."""
    return {**pool, **figures}


def _failed(line: dict[str, Any]) -> str:
    """What ended otherwise than well: `broken 2, expired 1`."""
    return ", ".join(
        f"{outcome} {users}" for outcome, users in line["outcomes"].items() if users and outcome != "ok"
    )


_POOL: Columns = {
    "project": lambda line: line["project"],
    "env": lambda line: line["env"],
    "domain": lambda line: line["domain"],
}
_AT: Columns = {"from (utc)": lambda line: format_utc(line["at"])}
_FIGURES: Columns = {
    "requests": lambda line: line["requests"],
    "refused": lambda line: line["refused"],
    "wait p50": lambda line: wait(line["wait"]["p50"]),
    "p95": lambda line: wait(line["wait"]["p95"]),
    "p99": lambda line: wait(line["wait"]["p99"]),
    "max": lambda line: wait(line["wait"]["max"]),
    "used": lambda line: percent(line["utilisation"]),
    "busy": lambda line: format_duration(line["busy_seconds"]),
    "peak": lambda line: line["peak_demand"],
    "ok": lambda line: line["outcomes"]["ok"],
    "not ok": _failed,
}
_PLOTS: Columns = {
    "waits p95": lambda line: sparkline([step["wait"]["p95"] for step in line["steps"]]),
    "peaks": lambda line: sparkline([step["peak_demand"] for step in line["steps"]]),
}
