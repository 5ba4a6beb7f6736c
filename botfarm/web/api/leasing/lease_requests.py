"""Bodies that come in about leases."""

from typing import Annotated
from uuid import UUID

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from botfarm.domain.leases import MAX_USERS, Outcome, Purpose, Reason, Verdict
from botfarm.web.api.shared.fields import (
    AskedLabels,
    AskedLogin,
    Integer,
    Metadata,
    Moment,
    Note,
    Owner,
    Password,
    ProjectName,
    SecretChanges,
    ShortName,
    Ttl,
)
from botfarm.web.api.shared.request_body import ABSENT, RequestBody


class WriteBack(RequestBody):
    """Fields that are absent stay as they are."""

    password: Password = ABSENT
    secrets: Annotated[
        SecretChanges, Field(repr=False, description="Merged by their names; null removes one.")
    ] = {}
    session_expires_at: Annotated[Moment, Field(description="When the kept session ends.")] = ABSENT


class Rotation(RequestBody):
    password: Annotated[Password, Field(description="By default the farm makes one.")] = ABSENT


class LockRequest(RequestBody):
    ttl_seconds: Ttl | None = None
    owner: Owner | None = None
    metadata: Metadata = {}


class LeaseRequest(LockRequest):
    purpose: Purpose = Purpose.TEST
    user_id: Annotated[UUID | None, Field(description="Of a hold: this user, instead of one of a pool.")] = (
        None
    )
    project_id: UUID | None = None
    project: Annotated[
        ProjectName | None, Field(validate_default=True, description="Its name, instead of its id.")
    ] = None
    env: Annotated[ShortName | None, Field(validate_default=True, description="Of the pool.")] = None
    domain: Annotated[ShortName | None, Field(description="By default the first of the project's.")] = None
    user: Annotated[
        AskedLogin | None,
        Field(description="Of a test: the login of the one user that will do, whatever its domain."),
    ] = None
    labels: AskedLabels = {}
    count: Annotated[Integer, Field(ge=1, le=MAX_USERS)] = 1
    wait_seconds: Annotated[Integer, Field(ge=0, le=300)] = 0
    priority: Annotated[Integer, Field(ge=-10, le=10)] = 0
    note: Annotated[Note | None, Field(description="Of a hold: why.")] = None

    @property
    def pool_env(self) -> str:
        """Validation has seen to it that a request without a user names an env."""
        assert self.env is not None  # noqa: S101
        return self.env

    @field_validator("user_id", "note")
    @classmethod
    def _of_a_hold(cls, value: object, info: ValidationInfo) -> object:
        if value is not None and info.data.get("purpose") is not Purpose.HOLD:
            raise PydanticCustomError("invalid", "goes with the purpose hold")
        return value

    @field_validator("project")
    @classmethod
    def _one_project(cls, project: str | None, info: ValidationInfo) -> str | None:
        given = (project, info.data.get("project_id"))
        if info.data.get("user_id") is not None and given != (None, None):
            raise PydanticCustomError("invalid", "a hold of one user needs no project")
        if info.data.get("user_id") is None and "project_id" in info.data and given.count(None) != 1:
            raise PydanticCustomError("invalid", "give either project_id or project")
        return project

    @field_validator("env")
    @classmethod
    def _of_a_pool(cls, env: str | None, info: ValidationInfo) -> str | None:
        if env is None and info.data.get("user_id") is None:
            raise PydanticCustomError("missing", "Field required")
        return env

    @field_validator("user")
    @classmethod
    def _of_a_test(cls, user: str | None, info: ValidationInfo) -> str | None:
        if user is not None and info.data.get("purpose") is not Purpose.TEST:
            raise PydanticCustomError("invalid", "goes with the purpose test; a hold takes user_id")
        return user

    @field_validator("labels", "count")
    @classmethod
    def _of_any_user(cls, value: object, info: ValidationInfo) -> object:
        if info.data.get("user") is not None and value not in ({}, 1):
            raise PydanticCustomError(
                "invalid", "does not go with user, which is one user whatever its labels"
            )
        return value

    @field_validator("wait_seconds")
    @classmethod
    def _of_tests_and_keepers(cls, seconds: int, info: ValidationInfo) -> int:
        if seconds and info.data.get("purpose") is Purpose.HOLD:
            raise PydanticCustomError("invalid", "a hold does not wait")
        return seconds


class LockRelease(RequestBody):
    lease_id: UUID | None = None


class Renewal(RequestBody):
    ttl_seconds: Ttl | None = None


class _Verdict(RequestBody):
    outcome: Outcome = Outcome.OK
    reason: Annotated[Reason | None, Field(description="Why it is not ok.")] = None
    note: Note | None = None

    @field_validator("reason")
    @classmethod
    def _of_a_failure(cls, reason: Reason | None, info: ValidationInfo) -> Reason | None:
        if reason is not None and info.data.get("outcome") is Outcome.OK:
            raise PydanticCustomError("invalid", "goes with the outcomes dirty and broken")
        return reason

    def verdict(self) -> Verdict:
        return Verdict(self.outcome, self.reason, self.note)


class UserVerdict(_Verdict):
    id: UUID


class Release(_Verdict):
    users: Annotated[
        list[UserVerdict],
        Field(max_length=MAX_USERS, description="What is said of one user, instead of what is said of all."),
    ] = []

    @field_validator("users")
    @classmethod
    def _each_once(cls, users: list[UserVerdict]) -> list[UserVerdict]:
        seen: set[UUID] = set()
        for place, user in enumerate(users):
            if user.id in seen:
                raise PydanticCustomError("invalid", f"has the user of entry {place} twice")
            seen.add(user.id)
        return users


class ForcedRelease(RequestBody):
    reason: Note
