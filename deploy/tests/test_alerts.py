"""The alert rules are valid, each fires and stays quiet when it should, and each has its runbook section."""

import re

import pytest
import yaml

from alert_rules import ALERTS
from stages import CHECKOUT, DEPLOY, run, tool

NAMES = [alert["alert"] for alert in ALERTS]
CASES = sorted((DEPLOY / "tests/alert_cases").glob("*.yml"))


def test_the_configuration_and_the_rules_are_right() -> None:
    output = run(tool("promtool"), "check", "config", str(DEPLOY / "prometheus/prometheus.yml"))
    assert "rules found" in output


@pytest.mark.parametrize("cases", CASES, ids=[path.stem for path in CASES])
def test_each_alert_fires_and_stays_quiet_when_it_should(cases: object) -> None:
    assert "SUCCESS" in run(tool("promtool"), "test", "rules", str(cases), seconds=300)


@pytest.mark.parametrize("name", NAMES)
def test_both_are_asked_of_each_alert(name: str) -> None:
    tests = [test for path in CASES for test in yaml.safe_load(path.read_text())["tests"]]
    asked = [each for test in tests for each in test["alert_rule_test"] if each["alertname"] == name]
    always_fires = name == "BotfarmWatchdog"
    assert {bool(each["exp_alerts"]) for each in asked} == ({True} if always_fires else {True, False})


@pytest.mark.parametrize("alert", ALERTS, ids=NAMES)
def test_each_alert_leads_to_a_section_that_says_what_to_do(alert: dict[str, dict[str, str]]) -> None:
    page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    sections = re.split(r"^## ", (CHECKOUT / page).read_text(), flags=re.MULTILINE)[1:]
    section = next(each for each in sections if each.startswith(f"{alert['alert']}\n"))
    assert anchor == str(alert["alert"]).lower()
    assert alert["labels"]["severity"] in {"critical", "warning", "none"}
    assert re.search(r"\*\*Means\.\*\*.*\*\*Look(\.\*\*.*\*\*Do\.\*\*|, do\.\*\*)", section, flags=re.DOTALL)


def test_the_runbook_has_no_section_of_an_alert_that_is_gone() -> None:
    sections = re.findall(r"^## (Botfarm.*)$", (CHECKOUT / "docs/runbook.md").read_text(), flags=re.MULTILINE)
    assert sections == NAMES
