"""Time-based one-time passwords (RFC 6238) from a seed as apps show it: base32, or an `otpauth://totp/` address."""

import time

import pyotp

from botfarm.domain import TotpCode

MAX_PERIOD = 300


def read_seed(seed: str) -> pyotp.TOTP:
    """Raises ValueError, without the seed in it, for what gives no codes."""
    try:
        totp = _parse(seed)
        if 0 < totp.interval <= MAX_PERIOD and totp.byte_secret():
            return totp
    except (ValueError, TypeError):  # what pyotp and base64 say quotes the seed
        pass
    raise ValueError("no base32 seed and no otpauth://totp/ address")


def _parse(seed: str) -> pyotp.TOTP:
    if not seed.startswith("otpauth://"):
        return pyotp.TOTP(seed.replace(" ", "").replace("-", ""))
    parsed = pyotp.parse_uri(seed)
    if not isinstance(parsed, pyotp.TOTP):
        raise TypeError("a counter is no time")
    return parsed


def current_code(seed: str) -> TotpCode:
    """The code of this moment: the clock is the world's, as the system under test reads its own."""
    totp, now = read_seed(seed), time.time()
    return TotpCode(
        totp.generate_otp(int(now // totp.interval)), round(totp.interval - now % totp.interval, 3)
    )
