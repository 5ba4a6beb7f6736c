"""Encryption of stored credentials: AES-256-GCM under a ring of keys.

A stored value is `v1.<key id>.<base64url of nonce and ciphertext>`. The associated data binds it to its
table, row and field, so a value that was moved to another row or field does not decrypt there. This does not
stop an attacker who can write to the database, because such an attacker could change a row's login, or insert
a token and ask the API. See docs/decisions/0004.
"""

import base64
import binascii
import re
import secrets
from collections.abc import Mapping
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

NONCE_BYTES, TAG_BYTES = 12, 16
KEY_BYTES = 32
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")
HOW_TO_MAKE_A_KEY = (
    "make one with `botfarm keys generate` and keep it: what it encrypts cannot be read without it"
)


class KeyRingError(Exception):
    """The keys cannot be used. The message never holds key material."""


class MissingKeyError(KeyRingError):
    """The value was encrypted under a key that this ring lacks."""

    def __init__(self, key_id: str, message: str) -> None:
        super().__init__(message)
        self.key_id = key_id


class KeyRing:
    """The keys of `BOTFARM_ENCRYPTION_KEYS`: the first encrypts, all decrypt."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._keys = dict(keys)
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self.key_ids = tuple(keys)
        self.active_key_id = next(iter(keys), None)
        self.missed: set[str] = set()
        """Ids of keys that `decrypt` needed and the ring lacks."""

    @classmethod
    def parse(cls, text: str) -> "KeyRing":
        """Reads `id:base64[,id:base64...]`; raises KeyRingError with the position of what is wrong."""
        keys: dict[str, bytes] = {}
        for position, entry in enumerate(ring_entries(text), start=1):
            key_id, _, encoded = entry.partition(":")
            if not is_key_id(key_id) or key_id in keys:
                raise KeyRingError(
                    f"key {position}: the id before ':' must be new and match {_KEY_ID.pattern}"
                )
            keys[key_id] = _decode_key(encoded, position)
        return cls(keys)

    def encrypt(self, plaintext: str, *, row_id: UUID, field: str) -> str:
        if self.active_key_id is None:
            raise KeyRingError(f"BOTFARM_ENCRYPTION_KEYS is empty: {HOW_TO_MAKE_A_KEY}")
        nonce = secrets.token_bytes(NONCE_BYTES)
        associated = _associated_data(self.active_key_id, row_id, field)
        sealed = nonce + self._ciphers[self.active_key_id].encrypt(nonce, plaintext.encode(), associated)
        return f"v1.{self.active_key_id}.{base64.urlsafe_b64encode(sealed).decode()}"

    def decrypt(self, stored: str, *, row_id: UUID, field: str) -> str:
        """Raises MissingKeyError when the ring lacks the value's key.

        Raises KeyRingError when the value is damaged, or belongs to another row or field.
        """
        key_id = key_id_of(stored)
        if not key_id:  # the value may be clear text, so nothing of it is shown
            raise KeyRingError(f"the stored {field} of {row_id} is not encrypted by this farm")
        try:
            nonce, ciphertext = _sealed_parts(stored)
            cipher = self._ciphers.get(key_id)
            if cipher is None:
                self.missed.add(key_id)
                raise MissingKeyError(
                    key_id, f"no key {key_id!r} in BOTFARM_ENCRYPTION_KEYS for the {field} of {row_id}"
                )
            return cipher.decrypt(nonce, ciphertext, _associated_data(key_id, row_id, field)).decode()
        except (InvalidTag, ValueError):
            raise KeyRingError(
                f"the stored {field} of {row_id} is not what was encrypted for that row"
            ) from None

    def derive(self, purpose: bytes, key_id: str | None = None) -> bytes:
        """Derives a key of 32 bytes for another purpose than encryption, from the active key or `key_id`.

        Raises KeyRingError when the ring does not have it.
        """
        wanted = self.active_key_id if key_id is None else key_id
        if wanted is None:
            raise KeyRingError(f"BOTFARM_ENCRYPTION_KEYS is empty: {HOW_TO_MAKE_A_KEY}")
        key = self._keys.get(wanted)
        if key is None:
            raise KeyRingError("no such key in BOTFARM_ENCRYPTION_KEYS")
        return HKDF(SHA256(), KEY_BYTES, salt=None, info=purpose).derive(key)


def ring_entries(text: str) -> list[str]:
    """The entries `id:base64` of the text, as they were written."""
    return [entry.strip() for entry in text.split(",") if entry.strip()]


def is_key_id(text: str) -> bool:
    return _KEY_ID.fullmatch(text) is not None


def key_id_of(stored: str) -> str:
    """Id of the key that encrypted the value; empty when no farm has encrypted it."""
    version, key_id, _ = (*stored.split(".", 2), "", "")[:3]
    return key_id if version == "v1" and is_key_id(key_id) else ""


def generate_key(key_id: str) -> str:
    """A new entry for `BOTFARM_ENCRYPTION_KEYS`. Raises KeyRingError for an id that cannot be one."""
    if not is_key_id(key_id):
        raise KeyRingError(f"the id must match {_KEY_ID.pattern}")
    return f"{key_id}:{base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}"


def _sealed_parts(stored: str) -> tuple[bytes, bytes]:
    """Nonce and ciphertext. Raises ValueError for a value that no key can have encrypted."""
    sealed = base64.urlsafe_b64decode(stored.rpartition(".")[2])
    if len(sealed) < NONCE_BYTES + TAG_BYTES:
        raise ValueError("too short")
    return sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]


def _associated_data(key_id: str, row_id: UUID, field: str) -> bytes:
    return f"v1|users|{row_id}|{field}|{key_id}".encode()


def _decode_key(encoded: str, position: int) -> bytes:
    try:
        key = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        key = b""
    if len(key) != KEY_BYTES:
        raise KeyRingError(
            f"key {position}: what follows ':' must be base64 of {KEY_BYTES} bytes; {HOW_TO_MAKE_A_KEY}"
        )
    return key
