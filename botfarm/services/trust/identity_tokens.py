"""Verifies the identity token (a JWT) of a CI's run.

The texts of refusals are for the audit and the log; the caller reads one text for all. They name claims, and never
hold anything of a token.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt

from botfarm.domain.trust import Claims
from botfarm.services.trust.issuer_keys import (
    UNREADABLE,
    IssuerKeys,
    KeysUnavailableError,
    UnknownKeyError,
)

MAX_LENGTH = 16_384
"""Characters. The tokens of GitHub and GitLab have about 2,000."""
ALGORITHMS = ("RS256", "ES256")
LEEWAY = 30
"""Seconds that the clocks of issuer and farm may differ."""
LONGEST_LIFE = 366 * 86_400
"""Seconds. A CI's token lives as long as a job at most, and the farm remembers it as long when it is taken once."""
_REQUIRED = ["iss", "aud", "iat", "exp"]
_REASONS: Mapping[type[Exception], str] = {
    jwt.ExpiredSignatureError: "expired",
    jwt.ImmatureSignatureError: "not valid yet",
    jwt.InvalidAudienceError: "another audience",
    jwt.InvalidIssuerError: "another issuer",
    jwt.InvalidAlgorithmError: "algorithm not allowed",
    jwt.MissingRequiredClaimError: "a claim of time, issuer or audience is missing",
    jwt.InvalidSignatureError: "bad signature",
}


class RefusedError(Exception):
    """The identity token is refused. The text is the exact reason, for the audit."""

    def __init__(self, reason: str, *, rule: str | None = None) -> None:
        """`rule` is the name of the trust rule that it is about, if it is about one."""
        super().__init__(reason)
        self.rule = rule


@dataclass(frozen=True, slots=True)
class IdentityToken:
    claims: Claims
    digest_input: bytes = field(repr=False)
    """The same for each copy of the token, and for no other token."""
    expires_at: float
    """Unix time."""


class IdentityTokens:
    def __init__(self, keys: IssuerKeys, *, audience: str) -> None:
        self._keys = keys
        self._audience = audience

    async def verify(self, token: str, *, issuer: str) -> IdentityToken:
        """The claims of a token of this issuer for this farm. Raises RefusedError."""
        try:
            header = jwt.get_unverified_header(token)
            algorithm, key_id = header.get("alg"), header.get("kid")
        except UNREADABLE:
            raise RefusedError("not a JWT") from None
        if algorithm not in ALGORITHMS:
            raise RefusedError("algorithm not allowed")
        try:
            key = await self._keys.find(issuer, key_id)
        except KeysUnavailableError as error:
            raise RefusedError(f"keys unavailable: {error}") from None
        except UnknownKeyError:
            raise RefusedError("unknown key") from None
        claims = self._decode(token, key, algorithm, issuer)
        expires_at = float(claims["exp"])
        if expires_at > time.time() + LONGEST_LIFE:
            raise RefusedError("lives too long")
        identity = (
            f"{issuer}\n{claims['jti']}" if isinstance(claims.get("jti"), str) else token.rpartition(".")[0]
        )
        return IdentityToken(_as_text(claims), identity.encode("utf-8", "surrogatepass"), expires_at)

    def _decode(self, token: str, key: jwt.PyJWK, algorithm: str, issuer: str) -> dict[str, Any]:
        try:
            return jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                issuer=issuer,
                audience=self._audience,
                leeway=LEEWAY,
                options={"require": _REQUIRED, "strict_aud": True, "enforce_minimum_key_length": True},
            )
        except UNREADABLE as error:
            reason = next(
                (text for kind, text in _REASONS.items() if isinstance(error, kind)), "not a valid JWT"
            )
            raise RefusedError(reason) from None


def issuer_of(token: str) -> str | None:
    """The issuer that the token names, not verified: only to look up a configured one."""
    if len(token) > MAX_LENGTH or not token.isascii():
        return None
    try:
        issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
    except UNREADABLE:
        return None
    return issuer if isinstance(issuer, str) else None


def _as_text(claims: Mapping[str, Any]) -> dict[str, str]:
    """Truth values and numbers as JSON writes them; lists, objects, fractions and null are left out.

    No rule can want those, so a claim of the wrong type is as good as none.
    """
    text = {}
    for name, value in claims.items():
        if isinstance(value, bool):
            text[name] = str(value).lower()
        elif isinstance(value, str | int):
            text[name] = str(value)
    return text
