import sys
from typing import Any

import pytest

from botfarm_client.commands.stats import sparklines
from botfarm_client.commands.stats.cells import wait
from botfarm_client.commands.stats.sparklines import sparkline
from support.fake_farm import PROJECT_ID, FakeFarm

FIGURES: dict[str, Any] = {
    "requests": 105,
    "granted": 100,
    "refused": 5,
    "refusals": {"exhausted": 3, "timeout": 2, "gone": 0, "quota": 0},
    "wait": {"p50": 0.04, "p95": 25.3, "p99": 125.0, "max": 180.0},
    "utilisation": 0.625,
    "busy_seconds": 8_280.0,
    "in_service_seconds": 13_248.0,
    "peak_demand": 12,
    "outcomes": {"ok": 98, "dirty": 0, "broken": 2, "unused": 0, "expired": 1, "forced": 0},
    "reasons": {"captcha": 2},
}
NOTHING = {
    **FIGURES,
    "requests": 0,
    "refused": 0,
    "wait": dict.fromkeys(FIGURES["wait"]),
    "utilisation": None,
    "busy_seconds": 0,
    "peak_demand": 0,
    "outcomes": dict.fromkeys(FIGURES["outcomes"], 0),
}
POOL: dict[str, Any] = {
    "project_id": PROJECT_ID,
    "project": "shop",
    "env": "stage",
    "domain": "canary",
    "total": FIGURES,
    "steps": [
        {"at": "2026-11-28T10:00:00Z", **FIGURES},
        {"at": "2026-11-28T11:00:00Z", **NOTHING},
    ],
}
USER: dict[str, Any] = {
    "id": "0068cbd8-e11a-4151-8c8c-659b33b2fa19",
    "login": "alice@shop.test",
    "project_id": PROJECT_ID,
    "env": "stage",
    "domain": "canary",
    "uses": 40,
    "failures": 3,
    "last_reason": "captcha",
    "busy_seconds": 5_400.0,
    "last_used": None,
    "quarantined_seconds": 90_000.0,
}
HOLDER = {"holder": "token:ci:t1", "account_hours": 12.34, "leases": 7, "expired_leases": 1}


def farm_with(of: str, *items: dict[str, Any]) -> FakeFarm:
    return FakeFarm({f"GET /stats/{of}": {"items": items}})


def test_pools_are_a_table_of_the_whole_window() -> None:
    header, line = farm_with("pools", POOL).run("stats", "pools").out.splitlines()
    shown = "PROJECT ENV DOMAIN REQUESTS REFUSED WAIT P50 P95 P99 MAX USED BUSY PEAK OK NOT OK"
    assert " ".join(header.split()) == shown
    assert line.split("  ")[0] == "shop"
    for text in ("105", "0.0s", "25s", "2m5s", "62%", "2h18m", "12", "98", "broken 2, expired 1"):
        assert text in line


def test_each_step_may_be_a_line_and_one_without_data_is_empty() -> None:
    farm = farm_with("pools", POOL)
    header, first, second = farm.run("stats", "pools", "--steps", "--step", "day").out.splitlines()
    assert "FROM (UTC)" in header
    assert "2026-11-28 10:00:00" in first
    assert second.split() == ["shop", "stage", "canary", "2026-11-28", "11:00:00", "0", "0", "0s", "0", "0"]
    assert farm.requests[-1].url.params["step"] == "day"


def test_a_terminal_shows_waits_and_peaks_as_sparklines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botfarm_client.commands.stats.pools_command.can_be_drawn", lambda: True)
    header, line = farm_with("pools", POOL).run("stats", "pools").out.splitlines()
    assert header.endswith("WAITS P95  PEAKS")
    assert line.endswith("█          █▁")


def test_a_terminal_without_the_characters_shows_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        encoding = "ascii"

        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdout", Terminal())
    assert not sparklines.can_be_drawn()
    Terminal.encoding = "utf-8"
    assert sparklines.can_be_drawn()


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([], ""),
        ([0, 0], "▁▁"),
        ([None, None], "  "),
        ([0, 1, 2, 4, None, 7], "▁▂▃▅ █"),
        ([float(number) for number in range(80)], sparkline([float(number) for number in range(1, 80, 2)])),
    ],
)
def test_a_sparkline_has_a_bar_for_each_value(values: list[float | None], line: str) -> None:
    assert sparkline(values) == line


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, ""), (0, "0.0s"), (9.94, "9.9s"), (9.96, "10s"), (300, "5m")]
)
def test_waits_have_tenths_while_they_are_short(seconds: float | None, text: str) -> None:
    assert wait(seconds) == text


def test_users_are_a_table_with_what_went_wrong() -> None:
    farm = farm_with("users", USER)
    header, line = farm.run("stats", "users", "--sort", "idle", "--limit", "3").out.splitlines()
    assert header.split("  ")[0] == "LOGIN"
    for text in ("alice@shop.test", "shop", "40", "3", "captcha", "1h30m", "never", "1d1h", USER["id"]):
        assert text in line
    asked = dict(farm.requests[0].url.params)
    assert asked == {"sort": "idle", "limit": "3"}


def test_holders_are_a_table_of_hours() -> None:
    farm = farm_with("holders", HOLDER)
    header, line = farm.run("stats", "holders", "--by", "job", "--since", "2026-11-01").out.splitlines()
    assert header.split() == ["JOB", "ACCOUNT", "HOURS", "LEASES", "EXPIRED"]
    assert line.split() == ["token:ci:t1", "12.3", "7", "1"]
    assert farm.requests[0].url.params["since"] == "2026-11-01T00:00:00+00:00"


@pytest.mark.parametrize(("of", "item"), [("pools", POOL), ("users", USER), ("holders", HOLDER)])
def test_json_is_what_the_farm_says(of: str, item: dict[str, Any]) -> None:
    assert farm_with(of, item).run("stats", of, "--json").json == {"items": [item]}
