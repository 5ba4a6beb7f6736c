"""Answers about the users that a pool needs."""

from datetime import date

from pydantic import AliasPath, Field

from botfarm.web.api.shared.response_body import OfPool, ResponseBody


class SizeReplayOut(ResponseBody):
    """Waits in seconds; null where requests would wait for ever."""

    users: int
    p50: float | None
    p95: float | None
    p99: float | None
    share_over_goal: float


class PoolCapacityOut(OfPool):
    project: str = Field(validation_alias=AliasPath("project_name"))
    in_service: int
    needed: int | None = Field(
        description="The least users that keep the goal on every day; null where the history does not tell."
    )
    worst_day: date | None = Field(description="The day of UTC that needs them.")
    sizes: list[SizeReplayOut] = Field(description="The worst day in pools of other sizes.")
    erlang_c: int | None = Field(
        description="What the formula says for the worst day, for comparison: it knows no bursts and no office hours."
    )
    requests: int = Field(description="Requests of tests that were replayed.")
    imputed: int = Field(description="Those that got no user, and are replayed with the median hold.")
    rest_costs: int | None = Field(
        description="How many of the needed users only the rest after leases needs."
    )
    days: int = Field(description="Days with requests.")
    advice: str = Field(description="One sentence.")
    limits: list[str] = Field(description="What the replay does not know, a sentence each.")
