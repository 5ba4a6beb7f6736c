"""A pool runs dry, or the API is gone, and the pager rings: the real Prometheus and the real Alertmanager."""

import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import yaml

from alert_rules import GROUPS
from alertmanager_server import CONFIGURATION, alertmanager
from farm_load import SMALL_POOL, USERS_OF_A_POOL, acquire
from farm_processes import FarmProcesses, farm_processes
from prometheus_server import prometheus_of
from stages import run, tool


@contextmanager
def webhook() -> Iterator[tuple[str, "queue.Queue[dict[str, Any]]"]]:
    """Its URL, and what it was sent."""
    notifications: queue.Queue[dict[str, Any]] = queue.Queue()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            notifications.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", notifications
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def configuration_that_calls(url: str) -> dict[str, Any]:
    """Ours, but its pager rings at the URL, and at once."""
    configuration: dict[str, Any] = yaml.safe_load(CONFIGURATION.read_text())
    for receiver in configuration["receivers"]:
        if receiver["name"] == "pager":
            receiver["webhook_configs"] = [{"url": url}]
    configuration["route"]["group_wait"] = "0s"
    return configuration


def impatient_rules() -> dict[str, Any]:
    """Ours, with seconds instead of minutes before an alert fires."""
    groups = [
        {**group, "rules": [{**rule, **({"for": "2s"} if "for" in rule else {})} for rule in group["rules"]]}
        for group in GROUPS
    ]
    return {"groups": groups}


def test_the_configuration_is_right() -> None:
    assert "SUCCESS" in run(tool("amtool"), "check-config", str(CONFIGURATION))


@contextmanager
def farm_with_a_pager(
    database_url: str, folder: Path
) -> Iterator[tuple[FarmProcesses, "queue.Queue[dict[str, Any]]"]]:
    with (
        farm_processes(database_url) as farm,
        webhook() as (url, notifications),
        alertmanager(folder, configuration_that_calls(url)) as address,
        prometheus_of(farm, folder, alertmanager=address, rules=impatient_rules()),
    ):
        yield farm, notifications


def test_a_pool_that_runs_dry_while_somebody_waits_rings_the_pager(database_url: str, tmp_path: Path) -> None:
    with farm_with_a_pager(database_url, tmp_path) as (farm, notifications), farm.client() as client:
        everything = acquire(client, **SMALL_POOL, count=USERS_OF_A_POOL)
        waiting = threading.Thread(target=_wait_for_a_user, args=(farm.url, dict(client.headers)))
        waiting.start()
        try:
            notification = notifications.get(timeout=45)
        finally:
            assert client.post(f"/leases/{everything['id']}/release").status_code == 200
            waiting.join()
    assert notification["receiver"] == "pager"
    assert notification["status"] == "firing"
    (alert,) = notification["alerts"]
    assert alert["labels"] == {"alertname": "BotfarmPoolExhausted", "severity": "critical", **SMALL_POOL}
    summary = "No user of bank/stage/canary is free, and runners wait or are refused."
    assert alert["annotations"]["summary"] == summary
    assert alert["annotations"]["runbook_url"] == "docs/runbook.md#botfarmpoolexhausted"


def test_an_api_that_is_gone_while_workers_live_rings_the_pager(database_url: str, tmp_path: Path) -> None:
    with farm_with_a_pager(database_url, tmp_path) as (farm, notifications):
        farm.api.terminate()
        notification = notifications.get(timeout=45)
    (alert,) = notification["alerts"]
    assert alert["labels"] == {"alertname": "BotfarmApiAway", "severity": "critical"}


def _wait_for_a_user(url: str, headers: dict[str, str]) -> None:
    body = {**SMALL_POOL, "wait_seconds": 50}
    httpx.post(f"{url}/api/v1/leases", json=body, headers=headers, timeout=60)
