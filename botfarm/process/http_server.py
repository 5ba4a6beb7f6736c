"""uvicorn as the API and the worker use it: on a socket that is bound beforehand, without signal handlers of its own."""

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

# Longer than any statement may take, shorter than the usual grace period of 30 s.
DRAIN_TIMEOUT = 20
# Longer than clients and proxies keep an idle connection (5 to 60 s), so that they end it: a server that ends one may do
# so just as a request comes along it.
KEEP_ALIVE = 75
# Seconds in which a peer must take something of an answer. Then the kernel gives the connection up, with what it holds.
UNREAD_PATIENCE = 30


def listen(host: str, port: int, *, setting: str) -> socket.socket:
    """Bound before anything else starts, so that a taken port costs nothing. Raises SettingsError."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # on Linux; connections get it from here
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
    """Stops when `should_exit` is set: requests under way finish first."""

    def __init__(
        self,
        app: Any,
        *,
        announce: Callable[[], None] | None = None,
        trusted_proxies: Sequence[str] = (),
        limits: ConnectionLimits = ConnectionLimits(),  # noqa: B008  frozen
    ) -> None:
        """Whose X-Forwarded-For tells the address of a caller must be said: by default nobody's does."""
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
