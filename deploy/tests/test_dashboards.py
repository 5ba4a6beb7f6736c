"""The dashboards are valid for Grafana; nothing is duplicated, unreadable or tied to one installation."""

import itertools
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dashboards import DASHBOARDS, panels, variables
from stages import DEPLOY
from typescript import compile_typescript, spoilt

EACH = pytest.mark.parametrize("dashboard", DASHBOARDS.values(), ids=DASHBOARDS)
POOL = ("namespace", "project", "env", "domain")
CHOICES = {"capacity": POOL, "pools": POOL, "stock": POOL, "service": ("namespace",)}
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


def type_check(dashboard: dict[str, Any], folder: Path) -> None:
    types = (DEPLOY / "tests/dashboard_types.ts").read_text()
    source = folder / "dashboard.ts"
    source.write_text(f"{types}\nexport const dashboard: BotfarmDashboard = {json.dumps(dashboard)};\n")
    compile_typescript(source, with_types_of="@grafana/schema")


@EACH
def test_it_has_the_types_that_grafana_declares(dashboard: dict[str, Any], tmp_path: Path) -> None:
    type_check(dashboard, tmp_path)


@pytest.mark.parametrize(
    ("where", "wrong"),
    [
        (("panels", 1, "options", "colorMode"), "colourful"),
        (("panels", 1, "fieldConfig", "defaults", "uint"), "s"),
        (("panels", 1, "targets", 0, "expression"), "up"),
        (("templating", "list", 0, "type"), "querry"),
        (("panels", 1, "gridPos", "w"), "4"),
    ],
)
def test_the_types_refuse_what_is_wrong(where: tuple[str | int, ...], wrong: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="error TS"):
        type_check(spoilt(DASHBOARDS["pools"], where, wrong), tmp_path)


@EACH
def test_ids_are_unique(dashboard: dict[str, Any]) -> None:
    ids = Counter(panel["id"] for panel in dashboard["panels"])
    assert set(ids.values()) == {1}
    for panel in panels(dashboard):
        references = [target["refId"] for target in panel["targets"]]
        assert len(references) == len(set(references)) > 0


def test_dashboards_are_told_apart() -> None:
    for name in ("uid", "title"):
        assert len({dashboard[name] for dashboard in DASHBOARDS.values()}) == len(DASHBOARDS) == 4


@EACH
def test_each_panel_says_what_it_is_and_in_which_unit(dashboard: dict[str, Any]) -> None:
    for panel in panels(dashboard):
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"] in {
            "short", "s", "reqps", "ops", "percentunit", "bytes",
        }  # fmt: skip
    titles = Counter(panel["title"] for panel in panels(dashboard))
    assert set(titles.values()) == {1}


@EACH
def test_everything_asks_the_chosen_data_source(dashboard: dict[str, Any]) -> None:
    assert variables(dashboard)["datasource"]["query"] == "prometheus"
    asking = [*panels(dashboard), *(target for panel in panels(dashboard) for target in panel["targets"])]
    asking += [variable for variable in variables(dashboard).values() if variable["type"] == "query"]
    assert [each["datasource"] for each in asking] == [DATASOURCE] * len(asking)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_each_variable_is_used_and_each_that_is_used_is_there(name: str) -> None:
    dashboard = DASHBOARDS[name]
    expressions = " ".join(target["expr"] for panel in panels(dashboard) for target in panel["targets"])
    used = set(re.findall(r"\$(\w+)", expressions)) - {"__rate_interval"}
    assert used | {"datasource"} == set(variables(dashboard)) == {"datasource", *CHOICES[name]}


@pytest.mark.parametrize("name", DASHBOARDS)
def test_each_series_is_of_the_farms_and_pools_that_are_chosen(name: str) -> None:
    """Without a namespace, as in Compose, All is `.*`, which also matches where there is none."""
    chosen = ", ".join(f'{choice}=~"${choice}"' for choice in CHOICES[name])
    for panel in panels(DASHBOARDS[name]):
        for target in panel["targets"]:
            rest = re.sub(r"[\w:]+\{" + re.escape(chosen), "", target["expr"])
            assert rest != target["expr"]
            assert not re.search(r"\b(botfarm_|process_|ALERTS\b)", rest), target["expr"]
    variable = variables(DASHBOARDS[name])["namespace"]
    assert variable["allValue"] == ".*"
    assert variable["current"]["value"] == ["$__all"]


@EACH
def test_panels_do_not_overlap_and_stay_within_the_page(dashboard: dict[str, Any]) -> None:
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    for place in places:
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
    for one, other in itertools.combinations(places, 2):
        assert (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        ), (one, other)


@EACH
def test_gauges_that_every_worker_sets_are_never_summed_over_workers(dashboard: dict[str, Any]) -> None:
    gauges = re.compile(
        r"(?<!:)botfarm_(users|users_health|oldest_dirty_seconds|waiters|oldest_wait_seconds|reaper_lag_seconds"
        r"|encrypted_values|db_dead_tuples)\b"
    )
    for panel in panels(dashboard):
        for target in panel["targets"]:
            for gauge in gauges.finditer(target["expr"]):
                before = target["expr"][: gauge.start()]
                assert re.search(r"(max|min)(?: by \([^)]*\))? ?\((deriv\()?$", before), target["expr"]
