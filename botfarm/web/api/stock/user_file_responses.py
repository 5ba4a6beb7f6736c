"""Answers about files of users: imports and exports."""

from typing import Annotated, Any

from pydantic import AliasPath, Field
from pydantic.json_schema import SkipJsonSchema

from botfarm.web.api.shared.response_body import ResponseBody, is_absent


class LineErrorOut(ResponseBody):
    line: int
    field: str
    code: str
    earlier_line: int | SkipJsonSchema[None] = Field(
        default=None, exclude_if=is_absent, description="Of a `duplicate`: the first line of the account."
    )


class ExportedCredentialsOut(ResponseBody):
    password: str = Field(repr=False)
    secrets: dict[str, Any] | None = Field(repr=False)
    totp_seed: str | None = Field(repr=False)


class ImportOut(ResponseBody):
    created: int
    updated: int
    unchanged: Annotated[int, Field(description="Users that were as their lines say already.")]
    skipped: int
    errors: list[LineErrorOut]


class ExportedUserOut(ResponseBody):
    """As an import takes it; without credentials where none were asked for."""

    login: str = Field(validation_alias=AliasPath("user", "login"))
    project: str
    env: str = Field(validation_alias=AliasPath("user", "pool", "env"))
    domain: str = Field(validation_alias=AliasPath("user", "pool", "domain"))
    labels: dict[str, str] = Field(validation_alias=AliasPath("user", "labels"))
    credentials: Annotated[ExportedCredentialsOut | None, Field(repr=False)]
