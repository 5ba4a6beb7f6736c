"""`regular-{1..20}@shop.test` stands for twenty logins, `{01..20}` for those with leading zeros."""

import re
from collections.abc import Iterator
from itertools import islice

MAX_USERS = 10_000
_RANGE = re.compile(r"\{(\d{1,9})\.\.(\d{1,9})\}", re.ASCII)
_LIKE_A_RANGE = re.compile(r"\{[^{}]*\.\.[^{}]*\}")


class RangeError(ValueError):
    """The message says what is wrong with the range."""


def expanded(login: str) -> list[str]:
    """All logins, in order. Raises RangeError."""
    rest = _RANGE.sub("", login)
    if _LIKE_A_RANGE.search(rest):
        raise RangeError("a range is written {1..20} or {01..20}")
    logins = list(islice(_expanded(login), MAX_USERS + 1))
    if len(logins) > MAX_USERS:
        raise RangeError(f"a file has at most {MAX_USERS:,} users")
    return logins


def _expanded(login: str) -> Iterator[str]:
    found = _RANGE.search(login)
    if found is None:
        yield login
        return
    first, last = found.groups()
    if int(first) > int(last):
        raise RangeError("a range counts up: {1..20}")
    width = len(first) if first.startswith("0") else 0
    for number in range(int(first), int(last) + 1):
        yield from _expanded(f"{login[: found.start()]}{number:0{width}d}{login[found.end() :]}")
