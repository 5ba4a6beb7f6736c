"""The SDK's own HTTP connections to one farm, for threads; `async_transport.py` is the same for tasks.

It stands on httpcore's single connections and on nothing that recorders and mocks of HTTP replace in a test
process: not on httpx's clients and transports, not on httpcore's pools. So a lease is never recorded, mocked
or replayed, whether this is imported before a mock is active or meanwhile.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpcore
import httpx
from httpcore import HTTP11Connection, NetworkStream, SyncBackend
from typing_extensions import override

from botfarm_client.connection.idle_connections import IdleConnections
from botfarm_client.connection.route import Route, timeouts_of
from botfarm_client.shared.fork_hook import call_when_forked

UNREACHED = (httpcore.ConnectError, httpcore.ConnectTimeout)
# The connection ended before the answer was whole.
BROKEN = (httpcore.NetworkError, httpcore.RemoteProtocolError)


class FarmTransport(httpx.BaseTransport):
    """Raises ConnectError or ConnectTimeout if no request was sent, else another httpx.TransportError."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._idle: IdleConnections[HTTP11Connection] = IdleConnections()
        call_when_forked(self, FarmTransport._begin_anew)

    @override
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Returns the answer with its whole body."""
        connection, stale = self._idle.take()
        _close(stale)
        with of_httpx():
            if connection is None:
                return self._ask(self._connect(request), request)
            try:
                return self._ask(connection, request)
            except BROKEN:
                if not may_be_repeated(request):
                    raise
                with suppress(*UNREACHED):
                    return self._ask(self._connect(request), request)
                raise  # not ConnectError, because the first request may have arrived

    @override
    def close(self) -> None:
        _close(self._idle.close())

    def _ask(self, connection: HTTP11Connection, request: httpx.Request) -> httpx.Response:
        try:
            response = connection.handle_request(self._route.request(request))
            content = response.read()
            response.close()
        finally:
            if connection.is_idle():
                _close(self._idle.put(connection))
            else:
                connection.close()
        return answer(response, content)

    def _connect(self, request: httpx.Request) -> HTTP11Connection:
        route, timeout = self._route, timeouts_of(request)["connect"]
        with while_connecting():
            host, port = route.first_hop.host.decode(), route.first_hop.port
            stream = SyncBackend().connect_tcp(host, port, timeout)
            try:
                if route.proxy_tls is not None:
                    stream = stream.start_tls(route.proxy_tls, host, timeout)
                if route.is_tunnelled:
                    stream = self._tunnel(stream, timeout)
                if route.farm_tls is not None:
                    stream = stream.start_tls(route.farm_tls, route.farm.host.decode(), timeout)
            except BaseException:
                stream.close()
                raise
        return HTTP11Connection(route.peer, stream)

    def _tunnel(self, stream: NetworkStream, timeout: float | None) -> NetworkStream:
        connection = HTTP11Connection(self._route.first_hop, stream)
        response = connection.handle_request(self._route.tunnelling(timeout))
        check_tunnel(response)
        tunnel: NetworkStream = response.extensions["network_stream"]
        return tunnel

    def _begin_anew(self) -> None:
        """Drops the connections in a forked process, which must not read an answer to its parent."""
        _close(self._idle.begin_anew())  # closes this process's copies; the parent's stay open


def _close(connections: list[HTTP11Connection]) -> None:
    for connection in connections:
        connection.close()


def may_be_repeated(request: httpx.Request) -> bool:
    """Whether to repeat a request on a new connection after the idle one was closed.

    All other retries are decided by `retrying.py`.
    """
    return request.method == "GET"


def check_tunnel(response: httpcore.Response) -> None:
    """Raises httpcore.ProxyError."""
    if not httpx.codes.is_success(response.status):
        reason = response.extensions["reason_phrase"].decode("ascii", errors="replace")
        raise httpcore.ProxyError(f"the proxy answered {response.status} {reason}".rstrip())


def answer(response: httpcore.Response, content: bytes) -> httpx.Response:
    extensions = {"reason_phrase": response.extensions["reason_phrase"]}
    return httpx.Response(
        response.status,
        headers=response.headers,
        stream=httpx.ByteStream(content),
        extensions=extensions,
    )


@contextmanager
def while_connecting() -> Iterator[None]:
    """Turns every failure into a connection error, because no request was sent yet."""
    try:
        yield
    except httpcore.TimeoutException:
        raise httpcore.ConnectTimeout from None
    except (*BROKEN, httpcore.ProxyError) as error:
        raise httpcore.ConnectError(str(error)) from None


@contextmanager
def of_httpx() -> Iterator[None]:
    """Turns an error of httpcore into httpx's error of the same name."""
    try:
        yield
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
        kind: type[httpx.TransportError] = getattr(httpx, type(error).__name__)
        raise kind(str(error)) from None
