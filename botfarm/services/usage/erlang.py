"""Erlang's formula C, for a comparison: it assumes requests that come one by one, evenly over the day."""

from math import exp


def erlang_c(*, load: float, service: float, goal: float, quantile: float) -> int:
    """The least users with which the share `quantile` of the requests waits at most `goal` seconds.

    `load` is how many users are in use on average, `service` the average seconds of one use.
    """
    users, blocked = 0, 1.0  # `blocked` is Erlang's B, by its recursion
    while True:
        users += 1
        blocked = load * blocked / (users + load * blocked)
        if users <= load:
            continue
        waiting = blocked / (1 - load / users * (1 - blocked))
        over = waiting * exp(-(users - load) * goal / service) if service > 0 else 0.0
        if over <= 1 - quantile:
            return users
