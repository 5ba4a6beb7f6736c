from typing import Any

from botfarm_client.commands.shared.farm_access import open_farm
from botfarm_client.commands.shared.key_values import format_wanted
from botfarm_client.commands.shared.lookups import project_id_of, project_names
from botfarm_client.commands.shared.options import (
    DEFAULT_URL,
    AsJson,
    MaybeDomain,
    MaybeEnv,
    MaybeProject,
    Url,
)
from botfarm_client.commands.shared.output import Columns, print_json, print_table
from botfarm_client.shared.durations import format_duration


def waiting(
    *,
    project: MaybeProject = None,
    env: MaybeEnv = None,
    domain: MaybeDomain = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """List the requests that wait for users, in the order in which they will be served."""
    with open_farm(url) as farm:
        items = farm.items("/leases/waiting", project_id=project_id_of(farm, project), env=env, domain=domain)
        names = {} if as_json else project_names(farm)
    if as_json:
        print_json({"items": items})
        return
    columns: Columns = {
        "project": lambda ticket: names.get(ticket["project_id"], ticket["project_id"]),
        "env": lambda ticket: ticket["env"],
        "domain": lambda ticket: ticket["domain"],
        "place": lambda ticket: ticket["place"],
        "count": lambda ticket: ticket["count"],
        "labels": lambda ticket: format_wanted(ticket["labels"]),
        "user": lambda ticket: ticket.get("login"),
        "priority": lambda ticket: ticket["priority"],
        "owner": lambda ticket: ticket["owner"],
        "principal": lambda ticket: ticket["principal"],
        "waited": _waited,
        "expected": lambda ticket: _about(ticket["expected_in"]),
        "ends": lambda ticket: f"in {format_duration(ticket['ends_in'])}",
    }
    print_table(columns, items)


def _waited(ticket: dict[str, Any]) -> str:
    return format_duration(ticket["waited"])


def _about(seconds: float | None) -> str:
    return "" if seconds is None else f"in about {format_duration(seconds)}"
