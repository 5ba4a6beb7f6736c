"""A connection to one of the hosts that a URL names: to the first that answers and is of the kind that is wanted."""

import asyncio
import contextlib
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg

# Seconds for each host before the next one is asked, too. The driver itself asks the next only when one has failed, and a
# machine that died without a word fails after minutes: longer than any request waits for its connection.
HEAD_START = 0.2
# Seconds. The goodbye is sent at once; a machine that is silent will never answer it.
GOODBYE_PATIENCE = 0.2


class Connection(asyncpg.Connection):  # type: ignore[misc]  # the driver has no types
    async def close(self, *, timeout: float | None = GOODBYE_PATIENCE) -> None:  # noqa: ASYNC109  the driver's own signature
        with contextlib.suppress(TimeoutError):
            await super().close(timeout=timeout)


async def connect(url: str, **options: Any) -> asyncpg.Connection:
    """As the driver's own. When no host will do, raises what the last one had to say."""
    options |= {"connection_class": Connection}
    hosts = _urls_of_single_hosts(url)
    attempts: list[asyncio.Task[asyncpg.Connection]] = []
    try:
        while True:
            if hosts:
                attempts.append(asyncio.create_task(asyncpg.connect(hosts.pop(0), **options)))
            patience = HEAD_START if hosts else None
            await asyncio.wait(attempts, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            for attempt in [each for each in attempts if each.done()]:
                attempts.remove(attempt)
                if attempt.exception() is None or not (attempts or hosts):
                    return attempt.result()
    finally:
        await _end(attempts)


async def _end(attempts: list[asyncio.Task[asyncpg.Connection]]) -> None:
    for attempt in attempts:
        attempt.cancel()
    for end in await asyncio.gather(*attempts, return_exceptions=True):
        if not isinstance(end, BaseException):
            end.terminate()  # it came too late


def _urls_of_single_hosts(url: str) -> list[str]:
    parts = urlsplit(url)
    account, at, hosts = parts.netloc.rpartition("@")
    if "," not in hosts:
        return [url]
    return [urlunsplit(parts._replace(netloc=f"{account}{at}{host}")) for host in hosts.split(",")]
