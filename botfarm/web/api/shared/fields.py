"""The types of the fields that requests share. No message repeats the value, because it may be a secret."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, LiteralString
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    Field,
    SecretStr,
    Strict,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from botfarm.crypto.totp import SeedError, read_seed
from botfarm.domain.credentials import MAX_SECRETS_BYTES
from botfarm.domain.pools import SHORT_NAME
from botfarm.domain.projects import MAX_NAMES, id_or_name
from botfarm.domain.users import MAX_LABELS
from botfarm.domain.wanted_labels import MAX_ALTERNATIVES, WantedLabels, alternatives
from botfarm.errors import FieldError, InvalidRequestError

MAX_TTL = 86_400
MAX_LABEL_KEY, MAX_LABEL_VALUE = 63, 255
MAX_METADATA_BYTES, MAX_JSON_DEPTH = 4_096, 20


def _invalid(message: LiteralString) -> PydanticCustomError:
    """The message must have no braces, because Pydantic would take them for a template."""
    return PydanticCustomError("invalid", message)


def _storable(text: str) -> str:
    """PostgreSQL keeps no NUL in text, and UTF-8 has no lone surrogates."""
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise _invalid("must be valid Unicode without the NUL character")
    return text


def _login(login: str) -> str:
    """Unchanged. What else it must be says the project, so the service checks it."""
    if not login.isprintable() or login != login.strip():
        raise _invalid("must be printable, without a blank at either end")
    return login


def _labels(labels: dict[str, str]) -> dict[str, str]:
    if len(labels) > MAX_LABELS:
        raise _invalid("must have at most 64 entries")
    for key, value in labels.items():
        if (
            not 1 <= len(_storable(key)) <= MAX_LABEL_KEY
            or ":" in key
            or len(_storable(value)) > MAX_LABEL_VALUE
        ):
            raise _invalid("keys are 1 to 63 characters without ':', values at most 255")
    return labels


def _one_error(value: object, validate: ValidatorFunctionWrapHandler) -> object:
    """Instead of one error for each type that a label may have."""
    try:
        return validate(value)
    except ValidationError:
        raise _invalid("must be a text, a list of texts, or null") from None


def _wanted_labels(labels: dict[str, str | tuple[str, ...] | None]) -> WantedLabels:
    _labels({key: value if isinstance(value, str) else "" for key, value in labels.items()})
    for key, values in labels.items():
        if isinstance(values, tuple):
            if not 1 <= len(values) <= MAX_ALTERNATIVES:
                raise _invalid("a list has 1 to 64 values")
            for value in values:
                _labels({key: value})
    return {key: alternatives(value) if isinstance(value, tuple) else value for key, value in labels.items()}


def _quantile(share: float) -> float:
    if not 0 < share < 1:
        raise _invalid(
            "must be more than 0 and less than 1, as 0.95: no history promises that no request waits"
        )
    return share


def labels_by_key(labels: Iterable[str]) -> dict[str, str]:
    """Reads texts `key:value`.

    Raises InvalidRequestError for a key with two values, because no user has both.
    """
    chosen: dict[str, str] = {}
    for key, _, value in (label.partition(":") for label in labels):
        if chosen.setdefault(key, value) != value:
            raise InvalidRequestError(
                FieldError("label", "invalid", "must not ask for two values of one key")
            )
    return chosen


def _metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    if _json_bytes(metadata) > MAX_METADATA_BYTES:
        raise _invalid("must be at most 4096 bytes of JSON")
    return metadata


def _secrets(secrets: dict[str, Any]) -> dict[str, Any]:
    if _json_bytes(secrets) > MAX_SECRETS_BYTES:
        raise _invalid("must be at most 262144 bytes of JSON")
    return secrets


def _json_bytes(value: dict[str, Any]) -> int:
    _check_json(value, depth=0)
    try:
        return len(json.dumps(value, allow_nan=False, ensure_ascii=False).encode())
    except ValueError:
        raise _invalid("must be JSON, without NaN and Infinity") from None


def _totp_seed(seed: SecretStr) -> SecretStr:
    try:
        read_seed(seed.get_secret_value())
    except SeedError as error:
        raise PydanticCustomError("invalid", "{reason}", {"reason": str(error), "code": error.code}) from None
    return seed


def _check_json(value: object, *, depth: int) -> None:
    """Refuses text that cannot be stored, and nesting that cannot be written out again."""
    if depth > MAX_JSON_DEPTH:
        raise _invalid("must be nested at most 20 deep")
    match value:
        case str():
            _storable(value)
        case dict():
            for key, inner in value.items():
                _storable(key)
                _check_json(inner, depth=depth + 1)
        case list():
            for inner in value:
                _check_json(inner, depth=depth + 1)
        case _:  # numbers, true, false, null
            return


def _not_a_uuid(name: str) -> str:
    if isinstance(id_or_name(name), UUID):
        raise _invalid("must not look like a UUID: a project is found by its name or by its id")
    return name


def _different(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise _invalid("must not have a name twice")
    return names


def _password(password: SecretStr) -> SecretStr:
    _storable(password.get_secret_value())
    return password


def _label_changes(labels: dict[str, str | None]) -> dict[str, str | None]:
    _labels({key: value or "" for key, value in labels.items()})
    return labels


def _in_utc(moment: datetime) -> datetime:
    """In UTC, as the database stores it. Refuses a moment that is outside of the calendar there."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise _invalid("must be between the years 1 and 9999 in UTC") from None


Integer = Annotated[int, Strict()]
Text = Annotated[str, AfterValidator(_storable)]
Login = Annotated[str, StringConstraints(min_length=1, max_length=320), AfterValidator(_login)]
AskedLogin = Annotated[str, StringConstraints(min_length=1, max_length=320), AfterValidator(_storable)]
Owner = Annotated[Text, StringConstraints(max_length=200)]
Note = Annotated[Text, StringConstraints(min_length=1, max_length=1_000)]
Labels = Annotated[dict[Annotated[str, Strict()], Annotated[str, Strict()]], AfterValidator(_labels)]
_WantedLabel = Annotated[
    Annotated[str, Strict()] | tuple[Annotated[str, Strict()], ...] | None, WrapValidator(_one_error)
]
AskedLabels = Annotated[
    dict[Annotated[str, Strict()], _WantedLabel],
    AfterValidator(_wanted_labels),
    Field(
        description="By key: a value that each user must have, a list of values of which it must have one, or null: "
        "it must not have this label."
    ),
]
Metadata = Annotated[dict[str, Any], AfterValidator(_metadata)]
Quantile = Annotated[
    float,
    AfterValidator(_quantile),
    Field(json_schema_extra={"exclusiveMinimum": 0, "exclusiveMaximum": 1}),
]
Ttl = Annotated[Integer, Field(ge=1, le=MAX_TTL, description="Seconds.")]
MaxHold = Annotated[Integer, Field(ge=1, le=2_592_000, description="Seconds.")]
LockDelay = Annotated[Integer, Field(ge=0, le=86_400, description="Seconds.")]
Cooldown = Annotated[Integer, Field(ge=0, le=2_592_000, description="Seconds.")]
Interval = Annotated[Integer, Field(ge=0, le=31_536_000, description="Seconds; 0: never.")]
Attempts = Annotated[Integer, Field(ge=0, le=1_000, description="0: never.")]
SomeAttempts = Annotated[Integer, Field(ge=1, le=1_000)]
Share = Annotated[
    float, Field(ge=0, le=1, allow_inf_nan=False, description="Of a pool's users in service, within an hour.")
]
ProjectName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$"), AfterValidator(_not_a_uuid)
]
ShortName = Annotated[str, StringConstraints(pattern=f"^{SHORT_NAME}$")]
ShortNames = Annotated[list[ShortName], Field(min_length=1, max_length=MAX_NAMES), AfterValidator(_different)]
TokenName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
MaxLeases = Annotated[Integer | None, Field(ge=1, le=1_000_000, description="Users held at the same time.")]
LabelChanges = Annotated[
    dict[Annotated[str, Strict()], Annotated[str, Strict()] | None], AfterValidator(_label_changes)
]
Password = Annotated[SecretStr, Field(min_length=1, max_length=1_024), AfterValidator(_password)]
TotpSeed = Annotated[SecretStr, Field(min_length=1, max_length=1_024), AfterValidator(_totp_seed)]
Secrets = Annotated[dict[str, Any], AfterValidator(_secrets)]
SecretChanges = Annotated[dict[str, Any], AfterValidator(_secrets)]
Label = Annotated[Text, StringConstraints(pattern=r"^[^:]{1,63}:.{0,255}$")]
SearchText = Annotated[Text | None, Field(max_length=320)]
Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]
