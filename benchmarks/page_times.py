"""The pages of a farm with 100,000 users: `python -m benchmarks.page_times`; three minutes."""

import argparse
import http.client
import statistics
import time
from http import HTTPStatus
from uuid import UUID

from benchmarks.database import running_postgres
from benchmarks.farm import Farm, running_farm
from benchmarks.lists import fill

TURNS = 40
PAGE_LIMIT, FILTER_LIMIT = 0.2, 0.3
"""Seconds. Below them a person has no feeling of waiting for the page."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page_times", description=__doc__)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--leases", type=int, default=500_000)
    plan = parser.parse_args()
    with running_postgres() as postgres, running_farm(postgres, "pages", replicas=1) as farm:
        busiest = fill(farm, users=plan.users, leases=plan.leases)
        rows = {name: measure(farm, path) for name, path in pages(busiest).items()}
    print(f"\n{plan.users:,} users, {plan.leases:,} leases; each page {TURNS} times, milliseconds\n")
    print("| page | median | longest | limit |\n|---|---|---|---|")
    for name, seconds in rows.items():
        limit = FILTER_LIMIT if "?" in pages(busiest)[name] else PAGE_LIMIT
        longest = max(seconds)
        print(
            f"| {name} | {statistics.median(seconds) * 1e3:.1f} | {longest * 1e3:.1f} | {limit * 1e3:.0f} |"
        )


def pages(busiest: UUID) -> dict[str, str]:
    """Addresses by the names of the rows. An address with a query is a filter."""
    return {
        "the board": "/ui/pools",
        "users": "/ui/users",
        "users of a pool": "/ui/users?project=shop&env=stage&domain=canary",
        "the user of a login": "/ui/users?login=user-99999%40shop.test",
        "free users with a label": "/ui/users?state=free&label=plan%3Apaid",
        "quarantined users": "/ui/users?state=quarantined",
        "users whose health is failing": "/ui/users?health=failing",
        "the user with the longest history": f"/ui/users/{busiest}",
        "leases": "/ui/leases",
        "active leases of a pool": "/ui/leases?project=shop&env=stage&domain=canary&state=active",
        "waiting": "/ui/waiting",
    }


def measure(farm: Farm, path: str) -> list[float]:
    """Seconds of each request, on a connection that is kept."""
    connection = http.client.HTTPConnection("127.0.0.1", farm.ports[0], timeout=60)
    found = []
    for _ in range(TURNS):
        started = time.perf_counter()
        connection.request("GET", path, headers={"Authorization": f"Bearer {farm.token}"})
        answer = connection.getresponse()
        answer.read()
        found.append(time.perf_counter() - started)
        if answer.status != HTTPStatus.OK:
            raise RuntimeError(f"{path} was answered with {answer.status}")
    connection.close()
    return found


if __name__ == "__main__":
    main()
