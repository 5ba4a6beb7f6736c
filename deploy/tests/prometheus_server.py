"""A real Prometheus that scrapes the farm every second and evaluates our rules."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from farm_processes import FarmProcesses, free_port
from stages import DEPLOY, tool
from support.processes import running

PATIENCE = 60.0


class Prometheus:
    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=f"{url}/api/v1", timeout=30)

    def get(self, path: str, **parameters: str) -> Any:
        answer = self._http.get(path, params=parameters)
        assert answer.status_code == 200, f"{parameters}: {answer.text}"
        return answer.json()["data"]

    def until_answered(self, query: str) -> None:
        """Until one of its values is a number. Fails with what it answered instead."""
        deadline = time.monotonic() + PATIENCE
        while not any(math.isfinite(value) for value in self.values(query)):
            assert time.monotonic() < deadline, f"no answer to {query}\n{self.get('query', query=query)}"
            time.sleep(0.5)

    def values(self, query: str) -> list[float]:
        return [float(series["value"][1]) for series in self.get("query", query=query)["result"]]

    def until_it_scrapes(self, targets: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.values("sum(up)") != [targets]:
            assert time.monotonic() < deadline, self.get("targets")
            time.sleep(0.2)

    def close(self) -> None:
        self._http.close()


@contextmanager
def prometheus_of(
    farm: FarmProcesses,
    folder: Path,
    *,
    alertmanager: str | None = None,
    rules: Mapping[str, Any] | None = None,
) -> Iterator[Prometheus]:
    """With our own rules unless it is given others."""
    (folder / "alerts.yml").write_text(
        yaml.safe_dump(rules) if rules else (DEPLOY / "prometheus/alerts.yml").read_text()
    )
    jobs: dict[str, Sequence[str]] = {
        "botfarm-api": [farm.api_metrics],
        "botfarm-worker": farm.worker_metrics,
    }
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["alerts.yml"],
        "alerting": {
            "alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}] if alertmanager else []
        },
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": list(targets)}]} for job, targets in jobs.items()
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    port = free_port()
    command = (
        tool("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    )
    with running(*command, environment={}) as process:
        process.wait_for("Server is ready to receive web requests")
        prometheus = Prometheus(f"http://127.0.0.1:{port}")
        try:
            prometheus.until_it_scrapes(sum(map(len, jobs.values())))
            yield prometheus
        finally:
            prometheus.close()
