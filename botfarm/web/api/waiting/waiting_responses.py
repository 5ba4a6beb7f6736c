"""Answers about requests that wait."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from botfarm.domain.leases import Purpose
from botfarm.web.api.shared.response_body import AskedLabelsOut, OfPool


class TicketOut(OfPool):
    """A request that waits."""

    id: int
    purpose: Purpose
    place: Annotated[int, Field(description="In the line of its pool; 1 is next.")]
    count: int
    labels: Annotated[AskedLabelsOut, Field(description="Those that are asked for.")]
    login: Annotated[str | None, Field(description="Of the one user that it waits for.")]
    priority: int
    principal: str
    owner: str | None
    arrived_at: datetime
    waited: Annotated[float, Field(description="Seconds since its first request under its key.")]
    ends_in: Annotated[float, Field(description="Seconds until it is answered, with users or without.")]
    expected_in: Annotated[
        float | None,
        Field(
            description="Seconds until it probably gets its users, by how long the pool's users were held lately."
        ),
    ]
