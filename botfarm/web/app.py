"""The HTTP application: read `create_app` from top to bottom."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline

import botfarm
from botfarm.runtime.services import Services, open_services
from botfarm.settings import Settings
from botfarm.web import probe_routes
from botfarm.web.api.access import audit_routes, auth_routes, token_routes
from botfarm.web.api.configuration import configuration_routes
from botfarm.web.api.leasing import lease_routes
from botfarm.web.api.stock import export_routes, import_routes, pool_routes, project_routes, user_routes
from botfarm.web.api.trust import exchange_routes, trust_routes
from botfarm.web.api.usage import capacity_routes, stats_routes
from botfarm.web.api.waiting import waiting_routes
from botfarm.web.http.dependencies import bearer, session
from botfarm.web.http.error_responses import MEDIA_TYPE, Problem, add_error_handlers, show_faults_of
from botfarm.web.http.fast_path import FastPath
from botfarm.web.http.request_log import RequestLog
from botfarm.web.http.session_cookie import SessionCookie
from botfarm.web.pages import (
    access_pages,
    audit_pages,
    capacity_pages,
    change_stream,
    hold_pages,
    lease_pages,
    pool_pages,
    sign_in_pages,
    sign_on_pages,
    site_pages,
    trust_pages,
    waiting_pages,
)
from botfarm.web.pages.page_routing import FRAGMENTS_AT_ONCE
from botfarm.web.pages.users import (
    user_action_pages,
    user_bulk_pages,
    user_import_pages,
    user_list_pages,
    user_pages,
)


def create_app(settings: Settings, *, keys_checked: bool = False) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_services(settings, "api") as services:
            app.state.services = services
            services.key_usage.show_active()
            watches = [asyncio.create_task(watch) for watch in _watches(services, keys_checked=keys_checked)]
            try:
                yield
            finally:
                for watch in watches:
                    watch.cancel()

    # Serves the scripts of /docs itself, because a script from elsewhere could act as the operator who has
    # the page open.
    app = FastAPIOffline(
        title="botfarm",
        version=botfarm.__version__,
        description=botfarm.__doc__ or "",
        lifespan=lifespan,
        generate_unique_id_function=_operation_id,
        redoc_url=None,
        redirect_slashes=False,  # a redirection repeats the address, with whatever a caller put into it
        # The framework's own tracing would record bodies, and bodies hold passwords.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.fragment_turns = asyncio.Semaphore(FRAGMENTS_AT_ONCE)
    app.state.session_cookie = SessionCookie(insecure=settings.cookie_insecure, port=settings.port)
    app.include_router(auth_routes.router)
    app.include_router(exchange_routes.router)
    for routes in (
        project_routes,
        export_routes,
        import_routes,
        user_routes,
        waiting_routes,  # before lease_routes, whose `/leases/{lease_id}` would match `/leases/waiting`
        lease_routes,
        pool_routes,
        capacity_routes,
        stats_routes,
        token_routes,
        configuration_routes,
        trust_routes,
        audit_routes,
    ):
        app.include_router(routes.router, dependencies=[bearer, session])
    for pages in (
        sign_in_pages,
        sign_on_pages,
        pool_pages,
        waiting_pages,
        audit_pages,
        capacity_pages,
        access_pages,
        trust_pages,
        change_stream,
        user_list_pages,
        user_bulk_pages,
        user_import_pages,
        user_pages,
        user_action_pages,
        lease_pages,
        hold_pages,
        site_pages,  # the last one, because it answers for every other address
    ):
        app.include_router(pages.router)
    app.include_router(site_pages.root)
    app.include_router(probe_routes.probes)
    if settings.metrics_port is None:
        app.include_router(probe_routes.metrics)
    add_error_handlers(app)
    for router in (lease_routes.router, user_routes.router):
        show_faults_of(router.routes)
    _document_problems(app)
    # Outermost, because FastAPI's middleware stack costs more than the operations of the fast path.
    framework = app.build_middleware_stack()
    app.middleware_stack = RequestLog(FastPath(lease_routes.router.routes, framework=framework))
    return app


def _watches(services: Services, *, keys_checked: bool) -> Iterator[Coroutine[Any, Any, None]]:
    yield services.readiness.watch(services.key_usage, keys_checked=keys_checked)
    yield services.cache_refresher.watch()
    yield services.maintenance.watch_clock()
    if services.listener:
        yield services.listener.watch()


def _operation_id(route: APIRoute) -> str:
    return route.name


_PROBLEM = f"#/components/schemas/{Problem.__name__}"


def _document_problems(app: FastAPI) -> None:
    """FastAPI documents every answer as application/json; problems are sent as application/problem+json."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        is_new = app.openapi_schema is None
        document = generate()  # kept by FastAPI from then on
        for path in document["paths"].values() if is_new else ():
            for operation in path.values():
                for answer in operation["responses"].values():
                    content = answer.get("content", {}).get("application/json")
                    if content and content["schema"].get("$ref") == _PROBLEM:
                        answer["content"] = {MEDIA_TYPE: content}
        return document

    app.openapi = openapi  # type: ignore[method-assign]
