"""The base of request bodies. They refuse unknown fields, and numbers that are not numbers."""

from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator
from pydantic_core import PydanticCustomError

from botfarm.domain.pools import SHORT_NAME
from botfarm.domain.projects import id_or_name
from botfarm.web.api.shared.fields import Text

EVERYTHING = "*"
# The default of a field that may be absent and must not be null, because null could not be merged.
ABSENT: Any = None


class RequestBody(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class ScopedBody(RequestBody):
    """A new credential, for some projects and envs or for all."""

    projects: Annotated[
        list[Annotated[Text, StringConstraints(min_length=1, max_length=64)]],
        Field(min_length=1, max_length=100, description='Ids or names; `["*"]` means all.'),
    ]
    envs: Annotated[
        list[Annotated[str, StringConstraints(pattern=rf"^({SHORT_NAME}|\*)$")]],
        Field(min_length=1, max_length=100, description='`["*"]` means all.'),
    ]

    @field_validator("projects", "envs")
    @classmethod
    def _all_stands_alone(cls, chosen: list[str]) -> list[str]:
        if EVERYTHING in chosen and len(chosen) > 1:
            raise PydanticCustomError("invalid", "all of them stands alone")
        return chosen

    @property
    def chosen_projects(self) -> list[UUID | str] | None:
        return None if EVERYTHING in self.projects else [id_or_name(each) for each in self.projects]

    @property
    def chosen_envs(self) -> list[str] | None:
        return None if EVERYTHING in self.envs else self.envs
