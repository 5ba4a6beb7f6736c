"""The base of answers. They are read from the domain objects that routes return."""

from collections.abc import Collection
from typing import Annotated, Generic, TypeVar
from uuid import UUID

from pydantic import AliasPath, BaseModel, BeforeValidator, ConfigDict, Field

Item = TypeVar("Item")


def _all_or_sorted(chosen: Collection[object] | None) -> list[str]:
    return ["*"] if chosen is None else sorted(map(str, chosen))


Chosen = Annotated[list[str], BeforeValidator(_all_or_sorted)]
ManagedBy = Annotated[
    str | None, Field(description="The file that made it; null for what was made by other ways.")
]
AskedLabelsOut = dict[str, str | list[str] | None]
"""A value, several of which one will do, or null for no such label."""


def is_absent(value: object) -> bool:
    return value is None


def is_empty(value: Collection[object]) -> bool:
    return not value


class ResponseBody(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class PageOut(ResponseBody, Generic[Item]):
    items: list[Item]
    next_cursor: Annotated[
        str | None, Field(description="Send it as `cursor` for the next page; null on the last.")
    ]


class ListOut(ResponseBody, Generic[Item]):
    items: list[Item]


class Identified(ResponseBody):
    id: UUID


class OfPool(ResponseBody):
    project_id: UUID = Field(validation_alias=AliasPath("pool", "project_id"))
    env: str = Field(validation_alias=AliasPath("pool", "env"))
    domain: str = Field(validation_alias=AliasPath("pool", "domain"))
