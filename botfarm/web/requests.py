"""Bodies that come in. They refuse unknown fields, and numbers that are not numbers."""

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from botfarm.domain import Domain, Env, LeasePolicy, Outcome
from botfarm.web.fields import Integer, Labels, Login, Metadata, Note, Owner, Password, ProjectName, Ttl

_POLICY = LeasePolicy()


class RequestBody(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class NewProject(RequestBody):
    id: UUID | None = None
    name: ProjectName
    default_ttl: Ttl = _POLICY.default_ttl
    max_ttl: Ttl = _POLICY.max_ttl
    max_hold: Annotated[Integer, Field(ge=1, le=2_592_000)] = _POLICY.max_hold
    lock_delay: Annotated[Integer, Field(ge=0, le=86_400)] = _POLICY.lock_delay
    cooldown: Annotated[Integer, Field(ge=0, le=2_592_000)] = _POLICY.cooldown


class NewUser(RequestBody):
    login: Login
    password: Password
    project_id: UUID
    env: Env
    domain: Domain
    labels: Labels = {}


class LockRequest(RequestBody):
    ttl_seconds: Ttl | None = None
    owner: Owner | None = None
    metadata: Metadata = {}


class LeaseRequest(LockRequest):
    project_id: UUID | None = None
    project: Annotated[
        ProjectName | None, Field(validate_default=True, description="Its name, instead of its id.")
    ] = None
    env: Env
    domain: Domain = Domain.REGULAR
    labels: Labels = {}
    count: Annotated[Integer, Field(ge=1, le=100)] = 1
    wait_seconds: Annotated[Integer, Field(ge=0, le=300)] = 0
    priority: Annotated[Integer, Field(ge=-10, le=10)] = 0

    @field_validator("project")
    @classmethod
    def _one_project(cls, project: str | None, info: ValidationInfo) -> str | None:
        if "project_id" in info.data and (project is None) == (info.data["project_id"] is None):
            raise PydanticCustomError("invalid", "give either project_id or project")
        return project


class LockRelease(RequestBody):
    lease_id: UUID | None = None


class Renewal(RequestBody):
    ttl_seconds: Ttl | None = None


class Release(RequestBody):
    outcome: Outcome = Outcome.OK
    note: Note | None = None


class ForcedRelease(RequestBody):
    reason: Note
