import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from botfarm import metrics
from botfarm.logs import get_logger
from botfarm.process.connection_limits import ConnectionLimits
from botfarm.process.http_server import HttpServer, listen
from botfarm.process.open_files import connections_within
from botfarm.runtime.services import Services
from botfarm.settings import Settings
from botfarm.web.app import create_app

logger = get_logger(__name__)

CONNECTIONS_BESIDE_WAITERS = 1_000
"""Connections for short requests, and for clients and proxies that keep a connection open."""

METRICS_CONNECTIONS = 100
METRICS_DRAIN_TIMEOUT = 1
"""Seconds. It drains after the API, and both must fit into the grace period."""


async def serve(
    settings: Settings,
    listening: socket.socket,
    stop: asyncio.Event,
    *,
    keys_checked: bool = False,
    announce: Callable[[], None] | None = None,
) -> None:
    """Serves until `stop` is set.

    Then requests in flight finish, and requests that wait for a user are answered.
    """
    taken = settings.model_copy(update={"port": listening.getsockname()[1]})  # port 0 has become a free port
    app = create_app(taken, keys_checked=keys_checked)
    server = HttpServer(
        app,
        announce=announce,
        trusted_proxies=settings.trusted_networks(),
        limits=ConnectionLimits(connections=_connections(settings)),
    )
    async with _metrics_port(settings):
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not serving.done():
            services: Services | None = getattr(app.state, "services", None)
            if services:  # None while it is still starting
                services.readiness.drain()
                services.waiting_room.stop()
                services.shutdown.begin()
            server.should_exit = True
        await serving


def _connections(settings: Settings) -> int:
    connections = connections_within(settings.max_waiters + CONNECTIONS_BESIDE_WAITERS)
    if connections < settings.max_waiters:
        logger.warning(
            "the limit of open files leaves fewer connections than BOTFARM_MAX_WAITERS",
            connections=connections,
            max_waiters=settings.max_waiters,
        )
    return connections


@asynccontextmanager
async def _metrics_port(settings: Settings) -> AsyncIterator[None]:
    """Serves metrics on a port of their own if one is set. Then the API's port shows no metrics."""
    if settings.metrics_port is None:
        yield
        return
    listening = listen(settings.host, settings.metrics_port, setting="BOTFARM_METRICS_PORT")
    app = Starlette(routes=[Route("/metrics", _all_metrics)])
    server = HttpServer(app, limits=ConnectionLimits(connections=METRICS_CONNECTIONS))
    server.config.timeout_graceful_shutdown = METRICS_DRAIN_TIMEOUT
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving


def _all_metrics(_: Request) -> Response:
    """A plain function, which Starlette calls in a thread, because a farm of many pools has many series."""
    return Response(metrics.exposition(with_pools=True), media_type=CONTENT_TYPE_LATEST)
