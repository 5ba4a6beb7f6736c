"""Every query of dashboards and alerts has an answer, from a real Prometheus of the real farm under load."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from alert_rules import ALERTS, RECORDS
from dashboards import DASHBOARDS, interpolated, queries, variables
from farm_load import under_load
from farm_processes import farm_processes
from prometheus_server import Prometheus, prometheus_of


@pytest.fixture(scope="module")
def prometheus(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder: Path = tmp_path_factory.mktemp("prometheus")
    with farm_processes(database_url) as farm, prometheus_of(farm, folder) as server, under_load(farm):
        yield server


QUERIES = [
    pytest.param(query, id=f"{name}: {title}")
    for name, dashboard in DASHBOARDS.items()
    for title, query in queries(dashboard)
]


@pytest.mark.parametrize("query", QUERIES)
def test_each_query_of_a_panel_has_an_answer(prometheus: Prometheus, query: str) -> None:
    prometheus.until_answered(query)


@pytest.mark.parametrize("dashboard", DASHBOARDS)
def test_each_variable_has_choices(prometheus: Prometheus, dashboard: str) -> None:
    """Without Kubernetes there is no namespace to choose."""
    choices: dict[str, list[str]] = {}
    for name, variable in variables(DASHBOARDS[dashboard]).items():
        if variable["type"] == "query":
            asked = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
            assert asked
            choices[name] = prometheus.get(f"label/{asked[2]}/values", **{"match[]": interpolated(asked[1])})
    pools = {
        "project": ["bank", "shop"],
        "env": ["preprod", "prod", "stage"],
        "domain": ["canary", "regular"],
    }
    assert choices == {"namespace": [], **(pools if dashboard != "service" else {})}


@pytest.mark.parametrize("alert", ALERTS, ids=[alert["alert"] for alert in ALERTS])
def test_each_comparison_of_an_alert_has_an_answer(prometheus: Prometheus, alert: dict[str, str]) -> None:
    """An unmet comparison answers nothing; with `bool` it answers 0, if there is something to compare.

    What `unless` takes away is asked for with `and`, if both sides have it.
    """
    query = re.sub(r"(?<=\s)(==|>=|<=|>|<)(?= )", r"\1 bool", alert["expr"]).replace("offset 1h", "offset 5s")
    prometheus.until_answered(re.sub(r"\bunless\b", "and", query))


@pytest.mark.parametrize("record", RECORDS, ids=[record["record"] for record in RECORDS])
def test_each_recorded_series_is_there(prometheus: Prometheus, record: dict[str, str]) -> None:
    prometheus.until_answered(record["record"])


def test_all_asks_for_metrics_that_there_are(prometheus: Prometheus) -> None:
    """Where `or` gives a query its zero, a misspelled name would have an answer, too."""
    asked = [rule["expr"] for rule in ALERTS + RECORDS]
    asked += [query for dashboard in DASHBOARDS.values() for _, query in queries(dashboard)]
    named = {name for query in asked for name in re.findall(r"(?<![:\w])(?:botfarm|process)_\w+", query)}
    assert len(named) > 20
    assert named - set(prometheus.get("label/__name__/values")) == set()
