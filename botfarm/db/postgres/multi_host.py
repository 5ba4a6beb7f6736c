"""Connects to one of the hosts of a URL: the first that answers and is of the kind that the URL wants."""

import asyncio
import contextlib
import functools
import random
import socket
import ssl
from collections.abc import Mapping
from typing import Any

import asyncpg

from botfarm.database_urls import read_database_url

# Seconds for each host before the next one is tried, too. asyncpg itself tries the next host only when one
# has failed, and a machine that died silently fails after minutes, longer than any request waits for its
# connection.
HEAD_START = 0.2
# Seconds for the answer to the closing message, because a silent machine will never send one.
GOODBYE_PATIENCE = 0.2


_TCP_OPTIONS = {
    "keepalives_idle": "TCP_KEEPIDLE",
    "keepalives_interval": "TCP_KEEPINTVL",
    "keepalives_count": "TCP_KEEPCNT",
    "tcp_user_timeout": "TCP_USER_TIMEOUT",
}


class Connection(asyncpg.Connection):  # type: ignore[misc]  # the driver has no types
    # asyncpg's own signature.
    async def close(self, *, timeout: float | None = GOODBYE_PATIENCE) -> None:  # noqa: ASYNC109
        with contextlib.suppress(TimeoutError):
            await super().close(timeout=timeout)

    def keep_alive(self, settings: Mapping[str, int]) -> None:
        """Sets the URL's parameters of TCP, as far as this system has them."""
        tcp = self._transport.get_extra_info("socket")
        if not settings or tcp.family == socket.AF_UNIX:
            return
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, settings.get("keepalives", 1))
        for name, value in settings.items():
            option = getattr(socket, _TCP_OPTIONS.get(name, ""), None)
            if option is not None and value > 0:  # 0 means the system's default
                tcp.setsockopt(socket.IPPROTO_TCP, option, value)


async def connect(url: str, **options: Any) -> Connection:
    """As `asyncpg.connect`. When no host will do, raises the error of the last one."""
    wanted = read_database_url(url)
    options |= {"connection_class": Connection}
    if wanted.connect_timeout is not None:
        options["timeout"] = min(wanted.connect_timeout, options.get("timeout", wanted.connect_timeout))
    if wanted.system_tls is not None:
        options["ssl"] = _system_tls(frozenset(wanted.system_tls.items()))
    hosts = list(wanted.hosts)
    if wanted.in_any_order:
        random.shuffle(hosts)
    attempts: list[asyncio.Task[Connection]] = []
    try:
        while True:
            if hosts:
                attempts.append(asyncio.create_task(asyncpg.connect(hosts.pop(0), **options)))
            patience = HEAD_START if hosts else None
            await asyncio.wait(attempts, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            for attempt in [each for each in attempts if each.done()]:
                attempts.remove(attempt)
                if attempt.exception() is None or not (attempts or hosts):
                    connection = attempt.result()
                    try:
                        connection.keep_alive(wanted.keepalive)
                    except BaseException:
                        connection.terminate()
                        raise
                    return connection
    finally:
        await _end(attempts)


async def _end(attempts: list[asyncio.Task[Connection]]) -> None:
    for attempt in attempts:
        attempt.cancel()
    for end in await asyncio.gather(*attempts, return_exceptions=True):
        if not isinstance(end, BaseException):
            end.terminate()  # it came too late


@functools.cache
def _system_tls(parameters: frozenset[tuple[str, str]]) -> ssl.SSLContext:
    """The context of `sslrootcert=system`, which asyncpg would take for a file.

    Cached, because it reads all certificates.
    """
    given = dict(parameters)
    context = ssl.create_default_context()
    context.set_alpn_protocols(["postgresql"])
    if "sslcert" in given:
        context.load_cert_chain(given["sslcert"], given.get("sslkey"), given.get("sslpassword", ""))
    if "sslcrl" in given:
        context.load_verify_locations(cafile=given["sslcrl"])
        context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN
    if "ssl_min_protocol_version" in given:
        context.minimum_version = _tls_version(given["ssl_min_protocol_version"])
    if "ssl_max_protocol_version" in given:
        context.maximum_version = _tls_version(given["ssl_max_protocol_version"])
    return context


def _tls_version(name: str) -> ssl.TLSVersion:
    return ssl.TLSVersion[name.replace(".", "_")]
