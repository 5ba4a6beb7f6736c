import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import start_http_server

from botfarm.http_server import HttpServer
from botfarm.runtime import Services
from botfarm.settings import Settings, SettingsError
from botfarm.web.app import create_app


async def serve(
    settings: Settings,
    listening: socket.socket,
    stop: asyncio.Event,
    *,
    keys_checked: bool = False,
    announce: Callable[[], None] | None = None,
) -> None:
    """Serves until `stop` is set; then requests under way finish, and those that wait for a user are answered."""
    taken = settings.model_copy(update={"port": listening.getsockname()[1]})  # 0 has become a free one
    app = create_app(taken, keys_checked=keys_checked)
    server = HttpServer(app, announce=announce, trusted_proxies=settings.trusted_networks())
    with _metrics_port(settings):
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not serving.done():
            services: Services | None = getattr(app.state, "services", None)
            if services:  # else it is still starting
                services.health.drain()
                services.waiting_room.stop()
                services.turns.stop()
            server.should_exit = True
        await serving


@contextmanager
def _metrics_port(settings: Settings) -> Iterator[None]:
    """A port of its own for Prometheus, where one is set: then the API's port tells nobody how the farm is used."""
    if settings.metrics_port is None:
        yield
        return
    try:
        server, thread = start_http_server(settings.metrics_port, settings.host)
    except OSError as error:
        reason = f"cannot listen on {settings.host} port {settings.metrics_port}: {error.strerror}"
        raise SettingsError(f"{reason}; set BOTFARM_METRICS_PORT") from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
