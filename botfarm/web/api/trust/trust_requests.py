"""The bodies about trust rules."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from botfarm.domain.access import Role
from botfarm.domain.trust import LONGEST_TTL, ROLES, missing_claims
from botfarm.web.api.shared.fields import Integer, MaxLeases, Text, TokenName
from botfarm.web.api.shared.request_body import ScopedBody

_IMPLIED = {"iss", "aud", "exp", "iat", "nbf", "jti"}
"""Claims that the farm judges itself."""
_NAME = re.compile(r"[A-Za-z0-9_./:-]{1,128}")


def _issuer(text: str) -> str:
    try:
        parts = urlsplit(text)
        is_address = parts.scheme == "https" and bool(parts.hostname) and (parts.port or 443) > 0
        is_plain = not parts.query and not parts.fragment and "@" not in parts.netloc
    except ValueError:
        is_address = is_plain = False
    if not (is_address and is_plain):
        raise PydanticCustomError("invalid", "an issuer is an address that begins with https://")
    return text


def _role(role: Role) -> Role:
    if role not in ROLES:
        raise PydanticCustomError("invalid", "a run is a runner or a keeper")
    return role


def _claims(claims: dict[str, str]) -> dict[str, str]:
    for name in claims:
        if name in _IMPLIED:
            raise PydanticCustomError("invalid", "the farm itself judges iss, aud, jti and times")
        if not _NAME.fullmatch(name):
            raise PydanticCustomError("invalid", "a claim's name has up to 128 letters, digits and _ . / : -")
    return claims


Issuer = Annotated[
    Text,
    StringConstraints(max_length=255),
    AfterValidator(_issuer),
    Field(description="As the tokens have it, such as `https://gitlab.com`."),
]


class NewTrustRule(ScopedBody):
    name: TokenName
    issuer: Issuer
    claims: Annotated[
        dict[str, Annotated[Text, StringConstraints(min_length=1, max_length=500)]],
        Field(min_length=1, max_length=20, description="What the claims must be; `*` stands for any text."),
        AfterValidator(_claims),
    ]
    role: Annotated[Role, AfterValidator(_role), Field(description="`runner` or `keeper`.")] = Role.RUNNER
    max_leases: Annotated[MaxLeases, Field(description="Users that one run holds at the same time.")] = None
    max_leases_of_all: Annotated[
        MaxLeases, Field(description="Users that all its runs hold at the same time.")
    ] = None
    token_ttl: Annotated[
        Integer, Field(ge=60, le=LONGEST_TTL, description="Seconds that a run's token lives.")
    ] = 3_600
    once: Annotated[
        bool, Field(description="Whether an identity token is taken once only; GitLab gives one for a job.")
    ] = True

    @field_validator("claims")
    @classmethod
    def _tied_to_an_owner(cls, claims: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        issuer = info.data.get("issuer")
        missing = None if issuer is None else missing_claims(issuer, claims)
        if missing is not None:
            named = " or ".join(sorted(missing)) or "the id of a project or owner, as its claims name it"
            raise PydanticCustomError(
                "invalid", "must have {named}, without *: names change hands", {"named": named}
            )
        return claims
