"""The one place where stored credentials become readable: at the hand-out to the holder of a live lease."""

from dataclasses import replace

from botfarm.credentials import KeyRing
from botfarm.domain import Lease, LeasedUser


def with_passwords(lease: Lease, key_ring: KeyRing) -> Lease:
    """Raises KeyRingError when a stored value cannot be decrypted."""
    return replace(lease, users=tuple(_with_password(user, key_ring) for user in lease.users))


def _with_password(user: LeasedUser, key_ring: KeyRing) -> LeasedUser:
    return replace(user, password=key_ring.decrypt(user.encrypted_password, row_id=user.id, field="password"))
