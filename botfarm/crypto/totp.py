"""Time-based one-time passwords (RFC 6238) from a seed as apps show it: base32, or an `otpauth://totp/` address."""

import hashlib
import re
import time
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

import pyotp

from botfarm.domain.credentials import TotpCode

_DIGESTS: dict[str, Any] = {"SHA1": hashlib.sha1, "SHA256": hashlib.sha256, "SHA512": hashlib.sha512}
_DEFAULTS = {"algorithm": "SHA1", "digits": "6", "period": "30"}
_DIGITS, _PERIOD = range(6, 11), range(1, 3_601)
"""Of RFC 4226, and what pyotp can do beyond it; seconds, up to what somebody may type."""

# What apps and servers add for the eye: FreeOTP and Bitwarden an image, FreeOTP+ a color and a lock, Stratum an icon, Ente
# the rest. A counter, which some write always, is of no meaning here.
_HARMLESS = frozenset({"issuer", "image", "icon", "color", "lock", "counter", "codedisplay", "tags"})

_SPEAKABLE = re.compile(r"[A-Za-z_-]{1,12}")
"""A name that may be repeated. Anything longer, or with digits, may be the seed itself: 12 letters are 60 bits at most."""


class SeedError(ValueError):
    """Why a seed gives no codes, without the seed in it."""


class _Totp(pyotp.TOTP):
    """The system under test has chosen the seed, and 80 bits are common: less than pyotp takes for new ones."""

    min_secret_length_bits: ClassVar[int] = 8


def read_seed(seed: str) -> pyotp.TOTP:
    """Raises SeedError. What an address says and this module does not know may change the code, so it is refused."""
    try:
        return _of_address(seed) if "://" in seed else _Totp(_compact(seed))
    except SeedError:
        raise
    except (ValueError, KeyError):  # which may quote the seed
        raise SeedError("must be a base32 seed or an otpauth://totp/ address") from None


def current_code(seed: str) -> TotpCode | None:
    """The code of this moment: the clock is the world's, as the system under test reads its own.

    None for a seed that an earlier version has stored and that `read_seed` refuses: its codes would be wrong.
    """
    try:
        totp = read_seed(seed)
    except SeedError:
        return None
    now = time.time()
    return TotpCode(
        totp.generate_otp(int(now // totp.interval)), round(totp.interval - now % totp.interval, 3)
    )


def _of_address(address: str) -> pyotp.TOTP:
    parts = urlsplit(address)
    if (parts.scheme, parts.netloc.lower()) != ("otpauth", "totp"):
        raise ValueError("a counter's address, or none at all")
    if parts.fragment:
        raise SeedError("the otpauth:// address has a # in it, which ends what is read: it is written %23")
    given = {**_DEFAULTS, **_parameters(parts.query)}
    return _Totp(
        _compact(given["secret"]),
        digest=_digest(given["algorithm"]),
        digits=_number("digits", given["digits"], _DIGITS),
        interval=_number("period", given["period"], _PERIOD),
    )


def _parameters(query: str) -> dict[str, str]:
    """Those that codes are made of, by their names in lower case. Raises SeedError for others that are not harmless."""
    found: dict[str, str] = {}
    for place, (typed, value) in enumerate(parse_qsl(query, keep_blank_values=True), start=1):
        name = typed.lower()
        if name in _HARMLESS:
            continue
        if name.startswith("amp;"):
            raise SeedError(
                "the otpauth:// address has &amp; in it: write & instead, it was copied out of HTML"
            )
        if name not in {"secret", *_DEFAULTS}:
            called = f"`{typed}`" if _SPEAKABLE.fullmatch(typed) else f"number {place}"
            raise SeedError(f"the otpauth:// address has a parameter that is not known here: {called}")
        if found.setdefault(name, value) != value:
            raise SeedError(f"the otpauth:// address has `{name}` twice")
    return found


def _digest(name: str) -> Any:
    """Also as `SHA-256` and `HmacSHA256`, which some write."""
    digest = _DIGESTS.get(name.upper().removeprefix("HMAC").replace("-", ""))
    if digest is None:
        raise SeedError("`algorithm` in the otpauth:// address must be SHA1, SHA256 or SHA512")
    return digest


def _number(name: str, text: str, allowed: range) -> int:
    if not re.fullmatch(r"[0-9]{1,4}", text) or int(text) not in allowed:
        raise SeedError(
            f"`{name}` in the otpauth:// address must be a number from {allowed[0]} to {allowed[-1]}"
        )
    return int(text)


def _compact(seed: str) -> str:
    """Apps show it in groups of four."""
    return seed.replace(" ", "").replace("-", "").rstrip("=")
