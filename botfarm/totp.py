"""Time-based one-time passwords (RFC 6238) from a seed as apps show it: base32, or an `otpauth://totp/` address."""

import hashlib
import time
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pyotp

from botfarm.domain import TotpCode

_DIGESTS: dict[str, Any] = {"SHA1": hashlib.sha1, "SHA256": hashlib.sha256, "SHA512": hashlib.sha512}


class _Totp(pyotp.TOTP):
    """The system under test has chosen the seed, and 80 bits are common: less than pyotp takes for new ones."""

    min_secret_length_bits: ClassVar[int] = 8


def read_seed(seed: str) -> pyotp.TOTP:
    """Raises ValueError, without the seed in it, for what gives no codes."""
    try:
        return _of_address(seed) if "://" in seed else _Totp(_compact(seed))
    except (ValueError, KeyError):  # which may quote the seed
        raise ValueError("no base32 seed and no otpauth://totp/ address") from None


def current_code(seed: str) -> TotpCode:
    """The code of this moment: the clock is the world's, as the system under test reads its own."""
    totp, now = read_seed(seed), time.time()
    return TotpCode(
        totp.generate_otp(int(now // totp.interval)), round(totp.interval - now % totp.interval, 3)
    )


def _of_address(address: str) -> pyotp.TOTP:
    parts = urlsplit(address)
    if (parts.scheme, parts.netloc) != ("otpauth", "totp"):
        raise ValueError("a counter's address, or none at all")
    given = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    return _Totp(
        _compact(given["secret"]),
        digest=_DIGESTS[given.get("algorithm", "SHA1").upper()],
        digits=int(given.get("digits", "6")),
        interval=int(given.get("period", "30")),
    )


def _compact(seed: str) -> str:
    """Apps show it in groups of four."""
    return seed.replace(" ", "").replace("-", "").rstrip("=")
