"""The types of the fields that requests share. A message says what is wrong, never with the value: it may be secret."""

import json
from typing import Annotated, Any, LiteralString
from uuid import UUID

from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, validate_email
from pydantic import AfterValidator, Field, SecretStr, Strict, StringConstraints
from pydantic_core import PydanticCustomError

# The library's own switch: test accounts live in `.test`, `.local` and `localhost`, which it refuses by default.
SPECIAL_USE_DOMAIN_NAMES.clear()

MAX_TTL = 86_400
MAX_LABELS, MAX_LABEL_KEY, MAX_LABEL_VALUE = 64, 63, 255
MAX_METADATA_BYTES = 4_096


def _invalid(message: LiteralString) -> PydanticCustomError:
    """Braces would be a template to Pydantic; none of our messages has any."""
    return PydanticCustomError("invalid", message)


def _storable(text: str) -> str:
    """PostgreSQL keeps no NUL in text."""
    if "\0" in text:
        raise _invalid("must not contain the NUL character")
    return text


def _login(login: str) -> str:
    """An e-mail address as it is typed; domains such as `.test` and `localhost` are fine for test accounts."""
    try:
        validate_email(login, check_deliverability=False, globally_deliverable=False)
    except EmailNotValidError:
        raise _invalid("must be an e-mail address") from None
    return login


def _labels(labels: dict[str, str]) -> dict[str, str]:
    if len(labels) > MAX_LABELS:
        raise _invalid("must have at most 64 entries")
    for key, value in labels.items():
        if (
            not 1 <= len(key) <= MAX_LABEL_KEY
            or ":" in key
            or len(value) > MAX_LABEL_VALUE
            or "\0" in key + value
        ):
            raise _invalid("keys are 1 to 63 characters without ':', values at most 255; no NUL")
    return labels


def _metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    try:
        encoded = json.dumps(metadata, allow_nan=False, ensure_ascii=False).encode()
    except ValueError:
        raise _invalid("must be JSON in valid Unicode, without NaN and Infinity") from None
    if len(encoded) > MAX_METADATA_BYTES:
        raise _invalid("must be at most 4096 bytes of JSON")
    if b"\\u0000" in encoded:
        raise _invalid("must not contain the NUL character")
    return metadata


def _not_a_uuid(name: str) -> str:
    try:
        UUID(name)
    except ValueError:
        return name
    raise _invalid("must not look like a UUID: a project is found by its name or by its id")


def _password(password: SecretStr) -> SecretStr:
    _storable(password.get_secret_value())
    return password


def _label_changes(labels: dict[str, str | None]) -> dict[str, str | None]:
    _labels({key: value or "" for key, value in labels.items()})
    return labels


Integer = Annotated[int, Strict()]
Text = Annotated[str, AfterValidator(_storable)]
Login = Annotated[str, StringConstraints(max_length=320), AfterValidator(_storable), AfterValidator(_login)]
Owner = Annotated[Text, StringConstraints(max_length=200)]
Note = Annotated[Text, StringConstraints(min_length=1, max_length=1_000)]
Labels = Annotated[dict[Annotated[str, Strict()], Annotated[str, Strict()]], AfterValidator(_labels)]
Metadata = Annotated[dict[str, Any], AfterValidator(_metadata)]
Ttl = Annotated[Integer, Field(ge=1, le=MAX_TTL, description="Seconds.")]
MaxHold = Annotated[Integer, Field(ge=1, le=2_592_000, description="Seconds.")]
LockDelay = Annotated[Integer, Field(ge=0, le=86_400, description="Seconds.")]
Cooldown = Annotated[Integer, Field(ge=0, le=2_592_000, description="Seconds.")]
ProjectName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$"), AfterValidator(_not_a_uuid)
]
LabelChanges = Annotated[
    dict[Annotated[str, Strict()], Annotated[str, Strict()] | None], AfterValidator(_label_changes)
]
Password = Annotated[SecretStr, Field(min_length=1, max_length=1_024), AfterValidator(_password)]
Label = Annotated[Text, StringConstraints(pattern=r"^[^:]{1,63}:.{0,255}$")]
SearchText = Annotated[Text | None, Field(max_length=320)]
