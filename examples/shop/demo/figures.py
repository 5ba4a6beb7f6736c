"""What the farm says of a run: from its metrics, its history, and its pools while the run lasts."""

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from threading import Event, Thread
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

SECONDS_BETWEEN_LOOKS = 0.1
WAITS = "botfarm_acquire_wait_seconds"


@dataclass(frozen=True)
class Spread:
    """Seconds."""

    median: float
    most: float
    """What 95 of 100 stay below."""


@dataclass(frozen=True)
class Figures:
    leases: int
    users: int
    waited: Spread
    held: Spread
    most_waiting: int
    most_leased: int


class Farm:
    def __init__(self, url: str, token: str, *, project: str) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False)
        self._project = project
        self._most_waiting = self._most_leased = 0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Looks at the pool until it is left."""
        over = Event()
        watching = Thread(target=self._watch, args=(over,))
        watching.start()
        try:
            yield
        finally:
            over.set()
            watching.join()

    def figures(self) -> Figures:
        leases = self._items("leases", project_id=self.pool()["project_id"], limit=1000)
        held = sorted(_seconds(lease["acquired_at"], lease["ended_at"]) for lease in leases)
        return Figures(
            leases=len(leases),
            users=len({user["id"] for lease in leases for user in lease["users"]}),
            waited=self._waited(),
            held=Spread(statistics.median(held), statistics.quantiles(held, n=20)[-1]),
            most_waiting=self._most_waiting,
            most_leased=self._most_leased,
        )

    def _watch(self, over: Event) -> None:
        while not over.wait(SECONDS_BETWEEN_LOOKS):
            pool = self.pool()
            self._most_waiting = max(self._most_waiting, pool["waiting"])
            self._most_leased = max(self._most_leased, pool["leased"])

    def pool(self) -> dict[str, Any]:
        (pool,) = (each for each in self._items("pools") if each["project"] == self._project)
        return pool

    def _items(self, path: str, **query: Any) -> list[dict[str, Any]]:
        answer = self._http.get(f"/api/v1/{path}", params=query).raise_for_status()
        return list(answer.json()["items"])

    def _waited(self) -> Spread:
        buckets = {
            float(sample.labels["le"]): sample.value
            for family in text_string_to_metric_families(self._http.get("/metrics").raise_for_status().text)
            for sample in family.samples
            if sample.name == f"{WAITS}_bucket" and sample.labels["project"] == self._project
        }
        return Spread(_quantile(0.5, buckets), _quantile(0.95, buckets))


def _quantile(share: float, buckets: dict[float, float]) -> float:
    """As Prometheus reckons it: evenly spread within the bucket."""
    wanted = share * max(buckets.values())
    bound_below = count_below = 0.0
    for bound, count in sorted(buckets.items()):
        if count >= wanted > 0:
            return bound_below + (bound - bound_below) * (wanted - count_below) / (count - count_below)
        bound_below, count_below = bound, count
    return 0.0


def _seconds(since: str, until: str) -> float:
    return (datetime.fromisoformat(until) - datetime.fromisoformat(since)).total_seconds()
