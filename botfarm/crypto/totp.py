"""Time-based one-time passwords (RFC 6238) from a seed: base32, or an `otpauth://totp/` address."""

import hashlib
import re
import time
from datetime import UTC, datetime
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

import pyotp

from botfarm.domain.credentials import TotpCode

_DIGESTS: dict[str, Any] = {"SHA1": hashlib.sha1, "SHA256": hashlib.sha256, "SHA512": hashlib.sha512}
_DEFAULTS = {"algorithm": "SHA1", "digits": "6", "period": "30"}
_DIGITS, _PERIOD = range(6, 11), range(1, 121)
"""Digits of RFC 4226, and what pyotp can do beyond it. Seconds of a period: pyotp has none of more than 120."""

# Parameters that do not change the code: FreeOTP and Bitwarden add an image, FreeOTP+ a color and a lock,
# Stratum an icon, Ente the rest. Some apps always write a counter, which TOTP does not use.
_HARMLESS = frozenset({"issuer", "image", "icon", "color", "lock", "counter", "codedisplay", "tags"})

_SPEAKABLE = re.compile(r"[A-Za-z_-]{1,12}")
"""A parameter's name that an error may repeat.

A longer name, or one with digits, may be the seed itself; 12 letters are 60 bits at most.
"""


class SeedError(ValueError):
    """Why a seed gives no codes, without the seed in it."""

    def __init__(self, message: str, code: str = "invalid") -> None:
        super().__init__(message)
        self.code = code
        """For an import, whose errors have no room for a message."""


class _Totp(pyotp.TOTP):
    """Accepts short seeds, because the system under test has chosen them.

    80 bits are common, less than pyotp allows for new seeds.
    """

    min_secret_length_bits: ClassVar[int] = 8


def read_seed(seed: str) -> pyotp.TOTP:
    """Raises SeedError, also for unknown parameters of an address, because they may change the code."""
    try:
        return _of_address(seed) if "://" in seed else _Totp(_compact(seed))
    except SeedError:
        raise
    except (ValueError, KeyError):  # their text may quote the seed
        raise SeedError("must be a base32 seed or an otpauth://totp/ address") from None


def current_code(seed: str) -> TotpCode | None:
    """The code of this moment, by this machine's clock: the system under test reads a clock of its own, too.

    None for a seed that an earlier version has stored and that `read_seed` refuses: its codes would be wrong.
    """
    try:
        totp = read_seed(seed)
    except SeedError:
        return None
    now = time.time()
    number = int(now // totp.interval)
    begin, end = number * totp.interval, (number + 1) * totp.interval
    period = (datetime.fromtimestamp(begin, UTC), datetime.fromtimestamp(end, UTC))
    return TotpCode(totp.generate_otp(number), period, round(end - now, 3))


def _of_address(address: str) -> pyotp.TOTP:
    parts = urlsplit(address)
    if (parts.scheme, parts.netloc.lower()) != ("otpauth", "totp"):
        raise SeedError(
            "must be a base32 seed or an otpauth://totp/ address: counters and other schemes give no such codes",
            "unsupported-scheme",
        )
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
    """The parameters that make the code, by their names in lower case.

    Raises SeedError for unknown parameters.
    """
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
            raise SeedError(
                f"the otpauth:// address has a parameter that is not known here: {called}",
                "unknown-parameter",
            )
        if found.setdefault(name, value) != value:
            raise SeedError(f"the otpauth:// address has `{name}` twice")
    return found


def _digest(name: str) -> Any:
    """Accepts `SHA-256` and `HmacSHA256`, too, which some apps write."""
    digest = _DIGESTS.get(name.upper().removeprefix("HMAC").replace("-", ""))
    if digest is None:
        raise SeedError(
            "`algorithm` in the otpauth:// address must be SHA1, SHA256 or SHA512", "unsupported-algorithm"
        )
    return digest


def _number(name: str, text: str, allowed: range) -> int:
    if not re.fullmatch(r"[0-9]{1,4}", text) or int(text) not in allowed:
        raise SeedError(
            f"`{name}` in the otpauth:// address must be a number from {allowed[0]} to {allowed[-1]}",
            f"unsupported-{name}",
        )
    return int(text)


def _compact(seed: str) -> str:
    """Without the spaces and dashes of groups, in which apps show a seed."""
    return seed.replace(" ", "").replace("-", "").rstrip("=")
