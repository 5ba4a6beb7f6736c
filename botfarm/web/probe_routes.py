"""The probes of Kubernetes and the metrics for Prometheus: no token, no body, nothing secret."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from botfarm.metrics import exposition
from botfarm.web.http.callers import sees_everything
from botfarm.web.http.dependencies import Farm
from botfarm.web.http.roles import public

probes = APIRouter(include_in_schema=False)
metrics = APIRouter(include_in_schema=False)

PROBE_METHODS = ["GET", "HEAD"]
"""`wget --spider` and some balancers ask with HEAD."""


@probes.api_route("/livez", methods=PROBE_METHODS)
@public
async def livez() -> Response:
    """Shows that the event loop turns.

    Never asks the database, because a restart of this process would not repair it.
    """
    return PlainTextResponse("ok")


@probes.api_route("/readyz", methods=PROBE_METHODS)
@public
async def readyz(farm: Farm) -> Response:
    reason = farm.readiness.why_unready
    return PlainTextResponse(reason or "ok", status_code=503 if reason else 200)


@probes.api_route("/startupz", methods=PROBE_METHODS)
@public
async def startupz(farm: Farm) -> Response:
    started = farm.readiness.started
    return PlainTextResponse(
        "ok" if started else "The database has not answered yet.", 200 if started else 503
    )


@metrics.get("/metrics")
@public
async def get_metrics(request: Request) -> Response:
    """Metrics of pools are only for callers whose scope is the whole farm, because they name the projects."""
    return Response(exposition(with_pools=await sees_everything(request)), media_type=CONTENT_TYPE_LATEST)
