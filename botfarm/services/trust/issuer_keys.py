"""The public keys of issuers: from a folder, or from the issuer itself, asked seldom and with patience for little.

A token with a key that is not known makes the farm ask once a minute at most, because anybody can make up names of
keys. Keys that are there stay when the issuer does not answer.
"""

import asyncio
import json
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from typing_extensions import override

from botfarm.logs import get_logger

logger = get_logger(__name__)

# Seconds.
LIFETIME = 600.0
BETWEEN_REFRESHES = 60.0
BETWEEN_TRIES = 10.0
"""Between two tries of an issuer whose keys are not known yet."""
PATIENCE = 5.0
"""For each of the two documents, in whole."""
MAX_BYTES = 262_144
_CHUNK = 16_384
UNREADABLE = (
    jwt.PyJWTError,
    AttributeError,
    LookupError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What PyJWT and its parsers raise for texts that are no token, and for documents that are no key."""
_KINDS = {"RSA", "EC"}
"""Of keys with a public half. A shared secret (`oct`) is never a key of an issuer."""

Keys = Mapping[str, jwt.PyJWK]
Fetch = Callable[[str], object]
"""Fetches a JSON document. Blocks."""


class KeysUnavailableError(Exception):
    """The issuer's keys are not known. The text says why, without anything that the issuer sent."""


class UnknownKeyError(Exception):
    """The issuer has no key of this name."""


@dataclass(slots=True)
class _Known:
    keys: Keys = field(default_factory=dict)
    fetched_at: float = -LIFETIME
    asked_at: float | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class IssuerKeys:
    def __init__(
        self, folder: Path | None, *, fetch: Fetch | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`folder` has a JWKS for each issuer that cannot be reached, named `<host of the issuer>.json`."""
        self._folder = folder
        self._fetch = fetch or fetch_json
        self._clock = clock
        self._known: dict[str, _Known] = {}

    async def find(self, issuer: str, key_id: str | None) -> jwt.PyJWK:
        """The key of this name; without a name the only one.

        Call it with configured issuers only. Raises KeysUnavailableError and UnknownKeyError.
        """
        if self._folder is not None and (file := self._folder / f"{urlsplit(issuer).netloc}.json").is_file():
            return _choose(await asyncio.to_thread(_read_file, file), key_id)
        known = self._known.setdefault(issuer, _Known())
        if self._should_ask(known, key_id) and not (known.lock.locked() and key_id in known.keys):
            async with known.lock:
                if self._should_ask(known, key_id):
                    await self._ask(issuer, known)
        if not known.keys:
            raise KeysUnavailableError("the issuer does not answer with keys")
        return _choose(known.keys, key_id)

    def _should_ask(self, known: _Known, key_id: str | None) -> bool:
        now = self._clock()
        if known.asked_at is not None:
            pause = BETWEEN_REFRESHES if known.keys else BETWEEN_TRIES
            if now - known.asked_at < pause:
                return False
        is_missing = not known.keys or (key_id is not None and key_id not in known.keys)
        return is_missing or now - known.fetched_at > LIFETIME

    async def _ask(self, issuer: str, known: _Known) -> None:
        known.asked_at = self._clock()
        try:
            known.keys = await asyncio.to_thread(_discover, self._fetch, issuer)
        except KeysUnavailableError as error:
            logger.warning("keys of an issuer are not available", issuer=issuer, reason=str(error))
        else:
            known.fetched_at = self._clock()


def _discover(fetch: Fetch, issuer: str) -> Keys:
    """OpenID Connect Discovery 1.0, section 4: the document must name the issuer that it was asked for."""
    document = fetch(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
    if not isinstance(document, dict) or document.get("issuer") != issuer:
        raise KeysUnavailableError("the discovery document is not of this issuer")
    address = document.get("jwks_uri")
    if not isinstance(address, str) or not address.startswith("https://"):
        raise KeysUnavailableError("the discovery document has no jwks_uri over https")
    return _keys_of(fetch(address))


def _read_file(file: Path) -> Keys:
    try:
        return _keys_of(json.loads(file.read_bytes()))
    except (OSError, ValueError, RecursionError):
        raise KeysUnavailableError("the file of keys cannot be read") from None


def _keys_of(document: object) -> Keys:
    """The usable keys by their names; a key of an unknown kind is passed over. Raises KeysUnavailableError."""
    listed = document.get("keys") if isinstance(document, dict) else None
    keys = {}
    for each in listed if isinstance(listed, list) else []:
        if not isinstance(each, dict) or each.get("use", "sig") != "sig":
            continue
        try:
            if each.get("kty") in _KINDS:
                keys[str(each.get("kid", ""))] = jwt.PyJWK(each)
        except (*UNREADABLE, NotImplementedError, UnsupportedAlgorithm):
            continue
    if not keys:
        raise KeysUnavailableError("there is no usable key")
    return keys


def _choose(keys: Keys, key_id: str | None) -> jwt.PyJWK:
    if key_id is None and len(keys) == 1:
        return next(iter(keys.values()))
    if key_id is None or key_id not in keys:
        raise UnknownKeyError
    return keys[key_id]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    @override
    def redirect_request(self, *_: Any) -> None:
        """None makes the opener raise, because a redirect could lead anywhere."""
        return


def fetch_json(address: str, *, form: Mapping[str, str] | None = None) -> object:
    """GETs a JSON document by https, or POSTs a form for one, through the proxy that the environment names.

    Raises KeysUnavailableError, after `PATIENCE` seconds at the latest.
    """
    deadline = time.monotonic() + PATIENCE
    data = None if form is None else urlencode(form).encode()
    request = urllib.request.Request(address, data, {"Accept": "application/json"})  # noqa: S310  https only
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=PATIENCE) as response:
            content = b""
            while chunk := response.read1(_CHUNK):
                content += chunk
                if len(content) > MAX_BYTES:
                    raise KeysUnavailableError("the document is too large")
                if time.monotonic() > deadline:
                    raise KeysUnavailableError("the document does not arrive in time")
        return json.loads(content)
    except (OSError, HTTPException) as error:  # URLError and timeouts are OSErrors
        raise KeysUnavailableError(f"the issuer cannot be asked: {type(error).__name__}") from None
    except (ValueError, RecursionError):
        raise KeysUnavailableError("the document is not JSON") from None
