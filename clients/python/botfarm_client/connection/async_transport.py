"""`transport.py`, for the tasks of one event loop."""

from contextlib import suppress

import httpx
from httpcore import AnyIOBackend, AsyncHTTP11Connection, AsyncNetworkStream
from typing_extensions import override

from botfarm_client.connection.idle_connections import IdleConnections
from botfarm_client.connection.route import Route, timeouts_of
from botfarm_client.connection.transport import (
    BROKEN,
    UNREACHED,
    answer,
    check_tunnel,
    may_be_repeated,
    of_httpx,
    while_connecting,
)
from botfarm_client.shared.fork_hook import call_when_forked


class AsyncFarmTransport(httpx.AsyncBaseTransport):
    """Raises as `FarmTransport`."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._idle: IdleConnections[AsyncHTTP11Connection] = IdleConnections()
        self._inherited: list[AsyncHTTP11Connection] = []
        call_when_forked(self, AsyncFarmTransport._begin_anew)

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """As `FarmTransport.handle_request`."""
        connection, stale = self._idle.take()
        await _close(stale)
        with of_httpx():
            if connection is None:
                return await self._ask(await self._connect(request), request)
            try:
                return await self._ask(connection, request)
            except BROKEN:
                if not may_be_repeated(request):
                    raise
                with suppress(*UNREACHED):
                    return await self._ask(await self._connect(request), request)
                raise

    @override
    async def aclose(self) -> None:
        await _close(self._idle.close())

    async def _ask(self, connection: AsyncHTTP11Connection, request: httpx.Request) -> httpx.Response:
        try:
            response = await connection.handle_async_request(self._route.request(request))
            content = await response.aread()
            await response.aclose()
        finally:
            if connection.is_idle():
                await _close(self._idle.put(connection))
            else:
                await _close([connection])
        return answer(response, content)

    async def _connect(self, request: httpx.Request) -> AsyncHTTP11Connection:
        route, timeout = self._route, timeouts_of(request)["connect"]
        with while_connecting():
            host, port = route.first_hop.host.decode(), route.first_hop.port
            stream = await AnyIOBackend().connect_tcp(host, port, timeout)
            try:
                if route.proxy_tls is not None:
                    stream = await stream.start_tls(route.proxy_tls, host, timeout)
                if route.is_tunnelled:
                    stream = await self._tunnel(stream, timeout)
                if route.farm_tls is not None:
                    stream = await stream.start_tls(route.farm_tls, route.farm.host.decode(), timeout)
            except BaseException:
                await stream.aclose()
                raise
        return AsyncHTTP11Connection(route.peer, stream)

    async def _tunnel(
        self,
        stream: AsyncNetworkStream,
        timeout: float | None,  # noqa: ASYNC109  httpcore's timeouts
    ) -> AsyncNetworkStream:
        connection = AsyncHTTP11Connection(self._route.first_hop, stream)
        response = await connection.handle_async_request(self._route.tunnelling(timeout))
        check_tunnel(response)
        tunnel: AsyncNetworkStream = response.extensions["network_stream"]
        return tunnel

    def _begin_anew(self) -> None:
        """Keeps the parent's connections open in a forked process: only its event loop may close them."""
        self._inherited += self._idle.begin_anew()


async def _close(connections: list[AsyncHTTP11Connection]) -> None:
    for connection in connections:
        if not connection.is_closed():
            await connection.aclose()
