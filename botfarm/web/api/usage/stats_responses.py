"""Bodies of the statistics, read from the domain objects that routes return."""

from datetime import datetime
from typing import Annotated

from pydantic import AliasPath, Field

from botfarm.domain.leases import Reason
from botfarm.web.api.shared.response_body import Identified, OfPool, ResponseBody


class WaitsOut(ResponseBody):
    """Seconds from the first request to the grant, of requests that were granted; null without any."""

    p50: float | None
    p95: float | None
    p99: float | None
    max: float | None


class RefusalsOut(ResponseBody):
    exhausted: int = 0
    timeout: int = 0
    gone: int = 0
    quota: int = 0


class OutcomesOut(ResponseBody):
    """Users by how their leases ended: what the release said, else what ended it."""

    ok: int
    dirty: int
    broken: int
    unused: Annotated[int, Field(description="Released before anybody used them.")]
    expired: int
    forced: int


class UsageOut(ResponseBody):
    """Of tests; keepers and holds are not counted."""

    requests: Annotated[int, Field(description="Granted and refused, when they were answered.")]
    granted: int
    refused: int
    refusals: RefusalsOut
    wait: WaitsOut
    utilisation: Annotated[
        float | None,
        Field(description="Busy users by users in service; null where no worker counted users in service."),
    ]
    busy_seconds: Annotated[float, Field(description="Of all users together.")]
    in_service_seconds: Annotated[
        float, Field(description="Of all users together, as far as a worker was there to count them.")
    ]
    peak_demand: Annotated[int, Field(description="The most users that were held and waited for at once.")]
    outcomes: OutcomesOut
    reasons: Annotated[dict[Reason, int], Field(description="Of users that were released dirty or broken.")]


class StepOut(UsageOut):
    at: Annotated[datetime, Field(description="The beginning of the step.")]


class PoolStatsOut(OfPool):
    project: str = Field(validation_alias=AliasPath("project_name"))
    total: Annotated[UsageOut, Field(description="Of the whole window.")]
    steps: Annotated[list[StepOut], Field(description="All steps of the window, the oldest first.")]


class UserStatsOut(OfPool, Identified):
    login: str
    uses: Annotated[int, Field(description="Leases of tests.")]
    failures: Annotated[
        int, Field(description="Releases as broken, but for `rate_limited` and `environment`.")
    ]
    last_reason: Annotated[Reason | None, Field(description="Of the last failure.")]
    busy_seconds: float
    last_used: Annotated[datetime | None, Field(description="Also before `since`; null: never.")]
    quarantined_seconds: float


class HolderStatsOut(ResponseBody):
    holder: Annotated[str | None, Field(description="Null for leases that name none.")]
    account_hours: Annotated[float, Field(description="Two users for an hour are two.")]
    leases: int
    expired_leases: int
