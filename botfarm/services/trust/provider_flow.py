"""The way to a provider of OpenID Connect and back: code flow with PKCE, state and nonce. It stores nothing here.

What belongs to an attempt is kept by the browser, signed, until it returns.
"""

import base64
import hashlib
import hmac
import secrets
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt

from botfarm.crypto.key_ring import KeyRing, KeyRingError
from botfarm.services.trust.identity_tokens import ALGORITHMS, LEEWAY
from botfarm.services.trust.issuer_keys import (
    UNREADABLE,
    IssuerKeys,
    KeysUnavailableError,
    UnknownKeyError,
    fetch_json,
)
from botfarm.services.trust.provider_endpoints import (
    Ask,
    ProviderEndpoints,
    SignOnRefusedError,
    asked,
    document_of,
)

ATTEMPT_LIFE = 600
"""Seconds from the click to the return."""
_PURPOSE = b"botfarm sign-on attempt"
_ALGORITHM = "HS256"
_LONGEST_SUBJECT = 255
"""Characters: OpenID Connect Core 1.0, section 2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    issuer: str
    client_id: str
    client_secret: str | None = field(repr=False)
    name: str
    """For the button."""
    scopes: str
    redirect_uri: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """One click on the button: where it leads, and what the browser keeps until it returns."""

    address: str
    cookie: str = field(repr=False)


class ProviderFlow:
    """Raises SignOnRefusedError."""

    def __init__(
        self, provider: Provider, keys: IssuerKeys, key_ring: KeyRing, *, ask: Ask = fetch_json
    ) -> None:
        self._provider = provider
        self._keys = keys
        self._key_ring = key_ring
        self._ask = ask
        self._endpoints = ProviderEndpoints(provider.issuer, ask)

    async def begin(self, next_page: str) -> Attempt:
        """Where the browser goes."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        endpoint = await self._endpoints.find("authorization_endpoint")
        digest = hashlib.sha256(verifier.encode()).digest()
        query = {
            "response_type": "code",
            "client_id": self._provider.client_id,
            "redirect_uri": self._provider.redirect_uri,
            "scope": self._provider.scopes,
            "state": state,
            "nonce": nonce,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        kept = {"state": state, "nonce": nonce, "verifier": verifier, "next": next_page}
        expiring = {**kept, "exp": int(time.time()) + ATTEMPT_LIFE}
        headers = {"kid": self._key_ring.active_key_id}
        cookie = jwt.encode(expiring, self._key_ring.derive(_PURPOSE), _ALGORITHM, headers=headers)
        joint = "&" if "?" in endpoint else "?"
        return Attempt(f"{endpoint}{joint}{urllib.parse.urlencode(query)}", cookie)

    async def claims(self, *, code: str, state: str, cookie: str | None) -> tuple[dict[str, Any], str]:
        """The verified claims of the person who returns, and the page that they wanted."""
        attempt = self._attempt(cookie, state)
        if not code:
            raise SignOnRefusedError("the provider gives no code")
        return await self._claims(code, attempt), attempt["next"]

    def _attempt(self, cookie: str | None, state: str) -> dict[str, str]:
        """What the browser kept. A return that this browser did not begin is refused."""
        if not cookie:
            raise SignOnRefusedError("no attempt of this browser")
        try:
            key = self._key_ring.derive(_PURPOSE, jwt.get_unverified_header(cookie)["kid"])
            kept: dict[str, str] = jwt.decode(
                cookie, key, algorithms=[_ALGORITHM], options={"require": ["exp"]}
            )
            is_same = hmac.compare_digest(kept["state"].encode(), state.encode())
        except (*UNREADABLE, KeyRingError):
            raise SignOnRefusedError("the attempt is over") from None
        if not is_same:
            raise SignOnRefusedError("another state")
        return kept

    async def _claims(self, code: str, attempt: Mapping[str, str]) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._provider.redirect_uri,
            "client_id": self._provider.client_id,
            "code_verifier": attempt["verifier"],
            **({"client_secret": self._provider.client_secret} if self._provider.client_secret else {}),
        }
        endpoint = await self._endpoints.find("token_endpoint")
        token = document_of(await asked(self._ask, endpoint, form)).get("id_token")
        if not isinstance(token, str):
            raise SignOnRefusedError("the provider gives no ID token")
        claims = await self._verified(token)
        if not _is_same_text(claims.get("nonce"), attempt["nonce"]):
            raise SignOnRefusedError("another nonce")
        return claims

    async def _verified(self, token: str) -> dict[str, Any]:
        """OpenID Connect Core 1.0, section 3.1.3.7."""
        client = self._provider.client_id
        try:
            header = jwt.get_unverified_header(token)
            key = await self._keys.find(self._provider.issuer, header.get("kid"))
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[each for each in ALGORITHMS if each == header.get("alg")],
                issuer=self._provider.issuer,
                audience=client,
                leeway=LEEWAY,
                options={"require": ["iss", "sub", "aud", "exp", "iat"]},
            )
        except KeysUnavailableError as error:
            raise SignOnRefusedError(f"keys unavailable: {error}") from None
        except UnknownKeyError:
            raise SignOnRefusedError("unknown key") from None
        except UNREADABLE as error:
            raise SignOnRefusedError(f"the ID token is refused: {type(error).__name__}") from None
        if isinstance(claims["aud"], list) and len(claims["aud"]) > 1 and claims.get("azp") != client:
            raise SignOnRefusedError("the ID token is for another client, too")
        if not isinstance(claims["sub"], str) or not 0 < len(claims["sub"]) <= _LONGEST_SUBJECT:
            raise SignOnRefusedError("the ID token has no usable subject")
        return claims


def _is_same_text(one: object, other: str) -> bool:
    return isinstance(one, str) and hmac.compare_digest(one.encode(), other.encode())
