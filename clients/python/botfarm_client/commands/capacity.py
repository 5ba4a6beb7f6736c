from collections.abc import Iterator
from typing import Annotated, Any

import typer

from botfarm_client.commands.shared.farm_access import open_farm
from botfarm_client.commands.shared.lookups import project_id_of
from botfarm_client.commands.shared.options import (
    DEFAULT_URL,
    AsJson,
    MaybeDomain,
    MaybeEnv,
    ProjectOption,
    Url,
    duration_option,
)
from botfarm_client.commands.shared.output import Columns, note, print_json, print_table, say
from botfarm_client.shared.control_characters import escape_control_characters

# Seconds that the farm may take to replay the pools of a project.
PATIENCE = 300.0


def capacity(
    *,
    project: ProjectOption,
    env: MaybeEnv = None,
    domain: MaybeDomain = None,
    goal: Annotated[int, duration_option("--goal", "How long a request may wait.")] = "30s",  # type: ignore[assignment]
    quantile: Annotated[
        float, typer.Option("--quantile", help="The share of requests that must keep the goal.")
    ] = 0.95,
    days: Annotated[int, typer.Option("--days", min=1, max=90, help="How far to look back.")] = 14,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Say how many users each pool needs, by a replay of what was asked of it."""
    if not 0 < quantile < 1:
        raise typer.BadParameter(
            "it is more than 0 and less than 1, as 0.95: no history promises that no request waits",
            param_hint="--quantile",
        )
    with open_farm(url) as farm:
        items = farm.items(
            "/capacity",
            wait=PATIENCE,
            project_id=project_id_of(farm, project),
            env=env,
            domain=domain,
            goal_seconds=goal,
            quantile=quantile,
            days=days,
        )
    if as_json:
        print_json({"items": items})
        return
    if not items:
        note("there is no such pool: see `botfarm pools`")
    for number, pool in enumerate(items):
        if number:
            say()
        _print(pool)


def _print(pool: dict[str, Any]) -> None:
    say(escape_control_characters(pool["advice"]))
    if pool["sizes"]:
        say()
        print_table(_COLUMNS, [{**size, "is": _meaning(size, pool)} for size in pool["sizes"]])
        say()
    for line in (*_remarks(pool), *pool["limits"]):
        say(escape_control_characters(line))


def _meaning(size: dict[str, Any], pool: dict[str, Any]) -> str:
    meanings = {"in service": pool["in_service"], "needed": pool["needed"]}
    return ", ".join(name for name, users in meanings.items() if users == size["users"])


def _remarks(pool: dict[str, Any]) -> Iterator[str]:
    if pool["rest_costs"]:
        yield f"The rest after leases costs {pool['rest_costs']} of the {pool['needed']}."
    if pool["erlang_c"] is not None:
        yield f"Erlang's formula C, which knows no bursts and no office hours, would say {pool['erlang_c']}."


def _seconds(wait: float | None) -> str:
    return "never" if wait is None else f"{wait:.0f} s"


_COLUMNS: Columns = {
    "users": lambda size: size["users"],
    "p50": lambda size: _seconds(size["p50"]),
    "p95": lambda size: _seconds(size["p95"]),
    "p99": lambda size: _seconds(size["p99"]),
    "over goal": lambda size: f"{100 * size['share_over_goal']:.1f} %",
    "": lambda size: size["is"],
}
