"""The worker's HTTP endpoints: probes and metrics."""

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from botfarm.runtime.readiness import Readiness
from workers.jobs import Heartbeat


def create_probes(health: Readiness, heartbeat: Heartbeat) -> Starlette:
    async def livez(_: Request) -> Response:
        late = heartbeat.late_jobs()
        return PlainTextResponse(f"late: {', '.join(late)}" if late else "ok", 503 if late else 200)

    async def readyz(_: Request) -> Response:
        reason = health.why_unready
        return PlainTextResponse(reason or "ok", 503 if reason else 200)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", metrics)])
