"""Encrypts credentials for the table, and decrypts them for the holder of a live lease."""

import json
from collections.abc import Mapping
from dataclasses import replace
from secrets import choice
from typing import Any
from uuid import UUID

from botfarm.crypto.key_ring import KeyRing, KeyRingError, MissingKeyError
from botfarm.domain.credentials import MAX_SECRETS_BYTES, ClearCredentials, SealedCredentials
from botfarm.domain.leases import Lease, LeasedUser
from botfarm.errors import FieldError, InvalidRequestError, KeyMissingError
from botfarm.logs import get_logger

logger = get_logger(__name__)

Secrets = Mapping[str, Any]

_LETTERS, _DIGITS, _SIGNS = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ", "23456789", "-_.!"


def seal(
    key_ring: KeyRing, user_id: UUID, *, password: str, secrets: Secrets | None, totp_seed: str | None
) -> SealedCredentials:
    return SealedCredentials(
        password=seal_password(key_ring, user_id, password),
        secrets=seal_secrets(key_ring, user_id, secrets) if secrets else None,
        totp_seed=seal_totp_seed(key_ring, user_id, totp_seed) if totp_seed else None,
    )


def seal_password(key_ring: KeyRing, user_id: UUID, password: str) -> str:
    return key_ring.encrypt(password, row_id=user_id, field="password")


def seal_pending_password(key_ring: KeyRing, user_id: UUID, password: str) -> str:
    return key_ring.encrypt(password, row_id=user_id, field="pending_password")


def open_pending_password(key_ring: KeyRing, user_id: UUID, sealed: str) -> str:
    return _open(key_ring, sealed, user_id, "pending_password")


def generate_password() -> str:
    """24 characters that forms accept: letters, digits and signs, at least one of each, without look-alikes."""
    while True:
        password = "".join(choice(_LETTERS + _DIGITS + _SIGNS) for _ in range(24))
        if all(set(password) & set(kind) for kind in (_LETTERS.lower(), _LETTERS.upper(), _DIGITS, _SIGNS)):
            return password


def seal_totp_seed(key_ring: KeyRing, user_id: UUID, seed: str) -> str:
    return key_ring.encrypt(seed, row_id=user_id, field="totp_seed")


def seal_secrets(key_ring: KeyRing, user_id: UUID, secrets: Secrets) -> str:
    return key_ring.encrypt(json.dumps(dict(secrets)), row_id=user_id, field="secrets")


def merge_secrets(key_ring: KeyRing, user_id: UUID, sealed: str | None, changes: Secrets) -> str | None:
    """Merges secrets: names of `changes` are replaced, or removed if null; others are kept.

    None when nothing is left.

    Raises InvalidRequestError when what is left is too large.
    """
    merged = {**(_secrets(key_ring, user_id, sealed) or {}), **changes}
    left = {name: value for name, value in merged.items() if value is not None}
    if len(json.dumps(left, ensure_ascii=False).encode()) > MAX_SECRETS_BYTES:
        raise InvalidRequestError(
            FieldError("secrets", "invalid", "must be at most 262144 bytes of JSON, those kept included")
        )
    return seal_secrets(key_ring, user_id, left) if left else None


def changes_secrets(key_ring: KeyRing, user_id: UUID, sealed: str | None, changes: Secrets) -> bool:
    """Whether `merge_secrets` makes a difference."""
    before = {
        name: value
        for name, value in (_secrets(key_ring, user_id, sealed) or {}).items()
        if value is not None
    }
    after = {name: value for name, value in {**before, **changes}.items() if value is not None}
    return after != before


def has_value(key_ring: KeyRing, user_id: UUID, field: str, sealed: str | None, clear: str) -> bool:
    """Whether the sealed value is this one. False where no key of the ring opens it: then it may be replaced."""
    try:
        return sealed is not None and key_ring.decrypt(sealed, row_id=user_id, field=field) == clear
    except KeyRingError:
        return False


def open_credentials(key_ring: KeyRing, user_id: UUID, sealed: SealedCredentials) -> ClearCredentials:
    """Raises KeyMissingError and KeyRingError, as `readable_lease`."""
    return ClearCredentials(
        _open(key_ring, sealed.password, user_id, "password"),
        _secrets(key_ring, user_id, sealed.secrets),
        totp_seed(key_ring, user_id, sealed.totp_seed) if sealed.totp_seed else None,
    )


def readable_lease(lease: Lease, key_ring: KeyRing) -> Lease:
    """Decrypts the credentials of a lease's users.

    Raises KeyMissingError for a value under a key that the ring lacks.

    Raises KeyRingError for a value that its key does not decrypt, or that no farm has encrypted.
    """
    return replace(lease, users=tuple(readable(user, key_ring) for user in lease.users))


def readable(user: LeasedUser, key_ring: KeyRing) -> LeasedUser:
    sealed = user.sealed
    if sealed is None:
        return user
    return replace(
        user,
        password=_open(key_ring, sealed.password, user.id, "password"),
        secrets=_secrets(key_ring, user.id, sealed.secrets),
        pending_password=sealed.pending_password
        and open_pending_password(key_ring, user.id, sealed.pending_password),
    )


def totp_seed(key_ring: KeyRing, user_id: UUID, sealed: str) -> str:
    return _open(key_ring, sealed, user_id, "totp_seed")


def _secrets(key_ring: KeyRing, user_id: UUID, sealed: str | None) -> dict[str, Any] | None:
    if sealed is None:
        return None
    try:
        secrets = json.loads(_open(key_ring, sealed, user_id, "secrets"))
    except json.JSONDecodeError:
        secrets = None
    if not isinstance(secrets, dict):
        raise KeyRingError(f"the stored secrets of {user_id} are no JSON object")
    return secrets


def _open(key_ring: KeyRing, sealed: str, user_id: UUID, field: str) -> str:
    try:
        return key_ring.decrypt(sealed, row_id=user_id, field=field)
    except MissingKeyError as error:
        logger.warning("key missing", key_id=error.key_id, reason=str(error))
        raise KeyMissingError from error
