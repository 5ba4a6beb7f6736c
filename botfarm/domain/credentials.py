"""The credentials of a user: encrypted as they are stored, or in clear for the holder of a lease."""

from dataclasses import dataclass, field

MAX_SECRETS_BYTES = 262_144
"""Limit for the secrets of one user, as JSON. The browser session of one site has some tens of kilobytes."""


@dataclass(frozen=True, slots=True)
class SealedCredentials:
    """The credentials as they are stored: encrypted, and bound to their user."""

    password: str = field(repr=False)
    secrets: str | None = field(default=None, repr=False)
    totp_seed: str | None = field(default=None, repr=False)
    pending_password: str | None = field(default=None, repr=False)
    """The new password of a rotation that is not confirmed."""


@dataclass(frozen=True, slots=True)
class TotpCode:
    code: str = field(repr=False)
    expires_in: float
    """Seconds until the next code."""
