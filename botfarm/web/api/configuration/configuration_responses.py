"""Answers about a whole farm, as a file wants it. They have no credential but the tokens that an apply has made."""

from typing import Annotated, Any
from uuid import UUID

from pydantic import AliasPath, Field

from botfarm.domain.configuration import Deed, Kind, WhyLeft
from botfarm.web.api.shared.response_body import ResponseBody


class ThingOut(ResponseBody):
    kind: Kind
    name: Annotated[str, Field(description="A login, for a user.")]
    project: str | None
    env: str | None


class DifferenceOut(ResponseBody):
    field: str
    before: Any
    after: Any


class ChangeOut(ResponseBody):
    thing: ThingOut
    deed: Deed
    differences: list[DifferenceOut]
    where: Annotated[
        str | None, Field(description="As `projects.0.users.3`; null for what the file no longer names.")
    ]
    id: Annotated[UUID | str | None, Field(description="Null for what is to be made.")]


class LeftAloneOut(ResponseBody):
    thing: ThingOut
    reason: WhyLeft
    differences: list[DifferenceOut]


class PlanOut(ResponseBody):
    changes: list[ChangeOut]
    left_alone: Annotated[
        list[LeftAloneOut], Field(description="What the file names, and is not the file's to change.")
    ]
    unnamed: Annotated[
        list[ThingOut], Field(description="What the file made and no longer names, and is not pruned.")
    ]
    fingerprint: Annotated[str, Field(description="Send it with the apply.")]


class AppliedTokenOut(ResponseBody):
    name: str
    id: str
    token: Annotated[
        str,
        Field(
            validation_alias="written",
            repr=False,
            description="The token itself. Nothing will show it again.",
        ),
    ]


class AppliedOut(ResponseBody):
    changes: list[ChangeOut] = Field(validation_alias=AliasPath("plan", "changes"))
    left_alone: list[LeftAloneOut] = Field(validation_alias=AliasPath("plan", "left_alone"))
    unnamed: list[ThingOut] = Field(validation_alias=AliasPath("plan", "unnamed"))
    tokens: Annotated[list[AppliedTokenOut], Field(description="Those that were made.")]
