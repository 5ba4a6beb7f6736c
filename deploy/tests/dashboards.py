"""The dashboards as JSON, and every question that they ask of Prometheus."""

import json
import re
from collections.abc import Iterator
from typing import Any

from stages import DEPLOY

DASHBOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text()) for path in sorted((DEPLOY / "grafana/dashboards").glob("*.json"))
}


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """Without the rows."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def queries(dashboard: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The name of each and its PromQL, with all farms and pools chosen."""
    for panel in panels(dashboard):
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", interpolated(target["expr"])


def variables(dashboard: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {variable["name"]: variable for variable in dashboard["templating"]["list"]}


def interpolated(query: str) -> str:
    """As Grafana would with every choice open, and with scrapes every second."""
    query = query.replace("$__rate_interval", "15s")
    return re.sub(r"\$(namespace|project|env|domain)\b", ".*", query)
