"""The credentials of a user: encrypted as they are stored, or in clear for the holder of a lease."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

MAX_SECRETS_BYTES = 262_144
"""Limit for the secrets of one user, as JSON. The browser session of one site has some tens of kilobytes."""


@dataclass(frozen=True, slots=True)
class ClearCredentials:
    """The credentials in clear: of an import, and of an export that an admin asked for."""

    password: str = field(repr=False)
    secrets: Mapping[str, object] | None = field(default=None, repr=False)
    totp_seed: str | None = field(default=None, repr=False)


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
    period: tuple[datetime, datetime]
    """From when and until when it is the code, by the clock of the process that made it."""
    expires_in: float
    """Seconds until the next code."""

    def good_for(self, seconds: float) -> bool:
        """Whether it is the code for so long from now on; of a shorter period, whether it has just begun."""
        begin, end = self.period
        return self.expires_in >= min(seconds, (end - begin).total_seconds() - 1)
