"""uvicorn for the API and the worker: on a socket that is already bound, without signal handlers."""

import socket
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import uvicorn
from typing_extensions import override

from botfarm.process.connection_limits import ConnectionLimits, LimitedProtocol
from botfarm.process.forwarded_address import ForwardedAddress
from botfarm.settings import SettingsError

# Seconds: longer than any statement may take, shorter than the usual grace period of 30 s.
DRAIN_TIMEOUT = 20
# Seconds: longer than clients and proxies keep an idle connection (5 to 60 s), so that they close it first. A
# server that closes first may do so just when a request arrives.
KEEP_ALIVE = 75
# Seconds in which a peer must acknowledge something of an answer. Then the kernel drops the connection.
UNREAD_PATIENCE = 30


def listen(host: str, port: int, *, setting: str) -> socket.socket:
    """Binds the port before anything else starts.

    Raises SettingsError when it is taken or the host is unknown.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; connections inherit it
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_PATIENCE * 1_000)
        bound.bind(address)
        bound.listen()  # only now is the port taken
    except OSError as error:
        raise SettingsError(f"cannot listen on {host} port {port}: {error.strerror}; set {setting}") from None
    return bound


def url_of(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class HttpServer(uvicorn.Server):
    """Stops when `should_exit` is set; requests in flight finish first."""

    def __init__(
        self,
        app: Any,
        *,
        announce: Callable[[], None] | None = None,
        trusted_proxies: Sequence[str] = (),
        limits: ConnectionLimits = ConnectionLimits(),  # noqa: B008  frozen
    ) -> None:
        """X-Forwarded-For counts only from `trusted_proxies`; without any, from nobody."""
        super().__init__(
            uvicorn.Config(
                ForwardedAddress(app, trusted_proxies) if trusted_proxies else app,
                http=cast("Any", partial(LimitedProtocol, limits=limits, evictable=OrderedDict())),
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=DRAIN_TIMEOUT,
                timeout_keep_alive=KEEP_ALIVE,
            )
        )
        self._announce = announce

    @contextmanager
    @override
    def capture_signals(self) -> Iterator[None]:
        yield

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self._announce:
            self._announce()
