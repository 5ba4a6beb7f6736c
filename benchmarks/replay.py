"""How long a replay takes: `python -m benchmarks.replay`. The goal is 100,000 requests in two seconds for a size."""

import random
import statistics
import time
from itertools import count

from benchmarks.fortnight import MEAN_HOLD, requests_of_a_day
from botfarm.services.usage.replay import Request, Users, replay
from botfarm.services.usage.sizing import DAY

REQUESTS = 100_000
ROUNDS = 5
ALIKE = {frozenset({0}): 50}
"""Sets of labels that requests ask for, and users by those that they match."""
MIXED = {frozenset({0}): 30, frozenset({0, 1}): 10, frozenset({0, 2}): 10}


def main() -> None:
    for name, users, big, sizes in (
        ("alike", ALIKE, 1, (0.8, 1, 2)),
        ("one in ten asks for four users", ALIKE, 4, (1, 2)),
        ("three sets of labels", MIXED, 1, (1, 2)),
    ):
        requests = history(len({number for matches in users for number in matches}), big)
        for size in sizes:
            pool = {matches: int(size * number) for matches, number in users.items()}
            print(
                f"{name}, {sum(pool.values())} users: {_seconds(requests, pool):.2f} s for {len(requests)} requests"
            )


def history(labels: int, big: int) -> list[Request]:
    """Days of bursts of 16, one after the other. One request in ten asks for `big` users."""
    chance = random.Random(1)
    requests = list[Request]()
    for day in count():
        for each in requests_of_a_day(chance):
            users = big if chance.random() < 1 / 10 else 1
            wanted = 0 if chance.random() < 3 / 4 else chance.randrange(labels)
            requests.append(
                Request(each.arrival + day * DAY, each.hold, each.hold + MEAN_HOLD / 20, wanted, users)
            )
            if len(requests) == REQUESTS:
                return requests
    raise AssertionError


def _seconds(requests: list[Request], users: Users) -> float:
    """Of the processor; the median of some rounds."""
    rounds = []
    for _ in range(ROUNDS):
        started = time.process_time()
        replay(requests, users)
        rounds.append(time.process_time() - started)
    return statistics.median(rounds)


if __name__ == "__main__":
    main()
