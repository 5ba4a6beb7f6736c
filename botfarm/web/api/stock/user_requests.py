"""Bodies that come in about users."""

from typing import Annotated
from uuid import UUID

from pydantic import Field, Strict, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from botfarm.domain.health import Health
from botfarm.domain.users import BulkAction, BulkChange, UserChanges, UserFilter, UserState
from botfarm.errors import FieldError, InvalidRequestError
from botfarm.web.api.shared.fields import (
    Integer,
    LabelChanges,
    Labels,
    Login,
    Moment,
    Note,
    Password,
    SearchText,
    SecretChanges,
    Secrets,
    ShortName,
    Text,
    TotpSeed,
)
from botfarm.web.api.shared.request_body import ABSENT, RequestBody


class NewUser(RequestBody):
    login: Login
    password: Password
    project_id: UUID
    env: ShortName
    domain: ShortName
    labels: Labels = {}
    secrets: Annotated[Secrets | None, Field(repr=False)] = None
    totp_seed: TotpSeed | None = None

    @property
    def plain_totp_seed(self) -> str | None:
        return self.totp_seed.get_secret_value() if self.totp_seed else None


class UserPatch(RequestBody):
    """Fields that are absent stay as they are."""

    login: Login = ABSENT
    password: Password = ABSENT
    project_id: UUID = ABSENT
    env: ShortName = ABSENT
    domain: ShortName = ABSENT
    labels: Annotated[LabelChanges, Field(description="Merged into the user's; null removes one.")] = {}
    secrets: Annotated[
        SecretChanges | None,
        Field(repr=False, description="Merged by their names; null removes one, or all of them."),
    ] = {}
    totp_seed: Annotated[TotpSeed | None, Field(description="Null removes it.")] = ABSENT
    session_expires_at: Annotated[Moment, Field(description="When its kept session ends.")] = ABSENT

    def changes(self) -> UserChanges:
        given = self.model_dump(exclude_unset=True, exclude={"password", "secrets", "totp_seed"})
        return UserChanges(
            **given,
            password=self.password.get_secret_value() if self.password else None,
            secrets=self.secrets or {},
            removes_secrets=self.secrets is None,
            totp_seed=self.totp_seed.get_secret_value() if self.totp_seed else None,
            removes_totp_seed="totp_seed" in self.model_fields_set and self.totp_seed is None,
        )


class Quarantine(RequestBody):
    reason: Note
    until: Annotated[
        Moment | None, Field(description="Then it ends by itself; null: when somebody restores the user.")
    ] = None


class Restore(RequestBody):
    note: Note | None = None
    clean: Annotated[
        bool | None, Field(description="Whether a keeper comes first; null: as the project's policy says.")
    ] = None


class Retirement(RequestBody):
    reason: Note


class BulkFilter(RequestBody):
    """As the query of `get_users`."""

    project_id: UUID | None = None
    env: ShortName | None = None
    domain: ShortName | None = None
    state: UserState | None = None
    health: Health | None = None
    login: Login | None = None
    search: SearchText = None
    labels: Labels = {}
    all: Annotated[bool, Field(validate_default=True, description="Needed where nothing else is given.")] = (
        False
    )

    @field_validator("all")
    @classmethod
    def _says_so(cls, everything: bool, info: ValidationInfo) -> bool:
        if not everything and not any(info.data.values()):
            raise PydanticCustomError("invalid", "a filter that matches everything needs all: true")
        return everything

    def chosen(self) -> UserFilter:
        return UserFilter(**self.model_dump(exclude={"all"}))


class ExportRequest(RequestBody):
    project_id: UUID | None = None
    env: ShortName | None = None
    domain: ShortName | None = None
    state: UserState | None = None
    labels: Labels = {}
    credentials: Annotated[bool, Strict(), Field(description="Needs the role admin.")] = False
    cursor: Annotated[Text | None, Field(max_length=512)] = None
    limit: Annotated[Integer, Field(ge=1, le=200)] = 200

    def chosen(self) -> UserFilter:
        return UserFilter(**self.model_dump(exclude={"credentials", "cursor", "limit"}))


class BulkRequest(RequestBody):
    action: BulkAction
    filter: BulkFilter | None = None
    ids: Annotated[list[UUID], Field(min_length=1, max_length=10_000)] = ABSENT
    reason: Annotated[
        Note | None, Field(validate_default=True, description="Of a quarantine and a retirement.")
    ] = None
    labels: Annotated[
        LabelChanges, Field(validate_default=True, description="Merged into the users'; null removes one.")
    ] = {}
    dry_run: Annotated[bool, Field(description="Only say what would be done.")] = False

    @field_validator("ids")
    @classmethod
    def _one_choice(cls, ids: list[UUID] | None, info: ValidationInfo) -> list[UUID] | None:
        if info.data.get("filter") is not None:
            raise PydanticCustomError("invalid", "give either filter or ids")
        return ids

    @field_validator("reason")
    @classmethod
    def _with_a_reason(cls, reason: str | None, info: ValidationInfo) -> str | None:
        needs_one = info.data.get("action") in {BulkAction.QUARANTINE, BulkAction.RETIRE}
        if needs_one and reason is None:
            raise PydanticCustomError("missing", "Field required")
        return reason

    @field_validator("labels")
    @classmethod
    def _of_labelling(cls, labels: dict[str, str | None], info: ValidationInfo) -> dict[str, str | None]:
        if bool(labels) != (info.data.get("action") is BulkAction.LABEL):
            raise PydanticCustomError("invalid", "goes with the action label")
        return labels

    def chosen(self) -> UserFilter | list[UUID]:
        """Raises InvalidRequestError when nothing was chosen."""
        if self.filter is not None:
            return self.filter.chosen()
        if self.ids is None:
            raise InvalidRequestError(FieldError("filter", "missing", "give either filter or ids"))
        return list(dict.fromkeys(self.ids))

    def change(self) -> BulkChange:
        return BulkChange(self.action, self.reason, self.labels)
