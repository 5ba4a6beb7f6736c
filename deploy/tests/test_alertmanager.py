"""Who is told of what, and what is not told beside its cause: asked of the real Alertmanager."""

import time
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import httpx
import pytest

from alert_rules import ALERTS
from alertmanager_server import CONFIGURATION, alertmanager
from stages import TOOLS, run, tool

PATIENCE = 30.0
NAMES = {alert["alert"] for alert in ALERTS}
ON_THEIR_OWN = {"BotfarmDatabaseAway", "BotfarmDown", "BotfarmOldKeyInUse", "BotfarmWatchdog"}
BURNS = {"BotfarmAcquireBudgetBurnsFast", "BotfarmAcquireBudgetBurns", "BotfarmAcquireBudgetBurnsSlowly"}
FOLLOWS = {
    "BotfarmDatabaseAway": NAMES - ON_THEIR_OWN,
    "BotfarmDown": NAMES - ON_THEIR_OWN,
    "BotfarmApiAway": BURNS
    | {
        "BotfarmPoolExhausted",
        "BotfarmPoolLowWater",
        "BotfarmWaitsTooLong",
        "BotfarmLeasesExpire",
        "BotfarmDirtyTooLong",
    },
    "BotfarmPoolGaugesStale": {"BotfarmReaperStale", "BotfarmWorkerJobFails"},
    "BotfarmPoolExhausted": {"BotfarmPoolLowWater", "BotfarmWaitsTooLong"},
    "BotfarmQuarantineCapped": {
        "BotfarmQuarantineRising",
        "BotfarmQuarantineHigh",
        "BotfarmHealthFailing",
    },
    "BotfarmQuarantineRising": {"BotfarmQuarantineHigh", "BotfarmHealthFailing"},
    "BotfarmAcquireBudgetBurnsFast": BURNS - {"BotfarmAcquireBudgetBurnsFast"},
    "BotfarmAcquireBudgetBurns": {"BotfarmAcquireBudgetBurnsSlowly"},
}
POOL = {"project": "shop", "env": "stage", "domain": "regular"}
Labels = dict[str, str]


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder: Path = tmp_path_factory.mktemp("alertmanager")
    with alertmanager(folder) as address, httpx.Client(base_url=f"http://{address}/api/v2") as client:
        yield client


def test_one_that_is_unpacked_reads_no_file_of_a_package_that_may_not_be_installed() -> None:
    program = Path(tool("prometheus-alertmanager"))
    is_ours = program.is_relative_to(TOOLS)
    assert not (is_ours and b"/usr/share/prometheus/alertmanager" in program.read_bytes())


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        ("severity=critical alertname=BotfarmPoolExhausted", "pager"),
        ("severity=warning alertname=BotfarmPoolLowWater", "team"),
        ("severity=none alertname=BotfarmWatchdog", "dead-mans-switch"),
    ],
)
def test_each_severity_has_a_receiver(labels: str, receiver: str) -> None:
    asked = ("config", "routes", "test", f"--config.file={CONFIGURATION}", *labels.split())
    assert run(tool("amtool"), *asked).strip() == receiver


def test_what_follows_from_an_alert_is_not_told_beside_it(manager: httpx.Client) -> None:
    """Each two of them together, in a namespace of their own."""
    together = {f"{cause}-{other}": (cause, other) for cause, other in permutations(NAMES, 2)}
    fire(
        manager,
        [
            {"alertname": name, "namespace": namespace, **POOL}
            for namespace, names in together.items()
            for name in names
        ],
    )
    expected = {cause: FOLLOWS.get(cause, set()) for cause in NAMES}
    silenced: dict[str, set[str]] = {}
    deadline = time.monotonic() + PATIENCE
    while silenced != expected:
        assert time.monotonic() < deadline, {
            name: silenced.get(name, set()) ^ expected[name] for name in NAMES
        }
        silenced = {name: set() for name in NAMES}
        for labels in suppressed(manager):
            cause, other = together[labels["namespace"]]
            if labels["alertname"] == other:
                silenced[cause].add(other)


def test_only_what_follows_in_the_same_farm_and_pool_is_not_told(tmp_path: Path) -> None:
    exhausted, low = {"alertname": "BotfarmPoolExhausted"}, {"alertname": "BotfarmPoolLowWater"}
    with alertmanager(tmp_path) as address, httpx.Client(base_url=f"http://{address}/api/v2") as manager:
        same_pool: Labels = {**low, **POOL}
        fire(
            manager,
            [
                {**exhausted, **POOL},
                same_pool,
                {**low, **POOL, "domain": "canary"},
                {**low, **POOL, "namespace": "another-farm"},
                {"alertname": "BotfarmDatabaseAway", "namespace": "a-third-farm"},
            ],
        )
        deadline = time.monotonic() + PATIENCE
        while (found := suppressed(manager)) != [same_pool]:
            assert time.monotonic() < deadline, found


def fire(manager: httpx.Client, alerts: list[Labels]) -> None:
    assert manager.post("/alerts", json=[{"labels": labels} for labels in alerts]).is_success


def suppressed(manager: httpx.Client) -> list[Labels]:
    alerts = manager.get("/alerts").json()
    return [alert["labels"] for alert in alerts if alert["status"]["state"] == "suppressed"]
