"""What signs a user in: encrypted as it is stored, or for the holder of a lease."""

from dataclasses import dataclass, field

MAX_SECRETS_BYTES = 262_144
"""Of one user, as JSON. What a browser keeps for a site that is signed in to is some tens of kilobytes."""


@dataclass(frozen=True, slots=True)
class SealedCredentials:
    """As they are stored: encrypted, and bound to their user."""

    password: str = field(repr=False)
    secrets: str | None = field(default=None, repr=False)
    totp_seed: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class TotpCode:
    code: str = field(repr=False)
    expires_in: float
    """Seconds until the next one."""
