"""The application in this process, asked by somebody with the bootstrap token."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from botfarm.settings import Settings
from botfarm.web.app import create_app
from support.farm import TOKEN


@asynccontextmanager
async def api_client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app, raise_app_exceptions=False),
            base_url="http://farm.test/api/v1",
            headers={"Authorization": f"Bearer {TOKEN}"},
        ) as client,
    ):
        yield client
