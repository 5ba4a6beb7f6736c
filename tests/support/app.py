"""The application in this process, called directly or on a real socket."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from botfarm.process.http_server import HttpServer, listen, url_of
from botfarm.settings import Settings
from botfarm.web.app import create_app
from support.farm import TOKEN

_built_routes: dict[int, BaseRoute] = {}


def _application(settings: Settings) -> FastAPI:
    """A new application with the routes of the first one. FastAPI takes 0.15 s to build them; they hold no state."""
    app = create_app(settings)
    for index, route in enumerate(app.router.routes):
        if router := getattr(route, "original_router", None):
            app.router.routes[index] = _built_routes.setdefault(id(router), route)
    return app


def routes_of(router: Any) -> Iterator[Any]:
    """All routes, those of included routers too."""
    for route in router.routes:
        included = getattr(route, "original_router", None)
        yield from routes_of(included) if included else [route]


@asynccontextmanager
async def api_client(
    settings: Settings, *, way: Callable[[FastAPI], ASGIApp] | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """A client with the bootstrap token that calls the application, or `way` around it, without a network."""
    app = _application(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app=way(app) if way else app, raise_app_exceptions=False),
            base_url="http://farm.test/api/v1",
            headers={"Authorization": f"Bearer {TOKEN}"},
        ) as client,
    ):
        yield client


@asynccontextmanager
async def on_a_socket(settings: Settings) -> AsyncIterator[str]:
    """Gives the URL."""
    listening, up = listen("127.0.0.1", 0, setting="BOTFARM_PORT"), asyncio.Event()
    server = HttpServer(_application(settings), announce=up.set, trusted_proxies=settings.trusted_networks())
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    await asyncio.wait_for(up.wait(), 10)
    try:
        yield url_of(listening)
    finally:
        server.should_exit = True
        await serving
