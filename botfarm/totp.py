"""Time-based one-time passwords (RFC 6238) from a seed as apps show it: base32, or an `otpauth://totp/` address."""

import binascii
import time

import pyotp

from botfarm.domain import TotpCode

MAX_PERIOD = 300


def read_seed(seed: str) -> pyotp.TOTP:
    """Raises ValueError, without the seed in it, for what gives no codes."""
    try:
        if seed.startswith("otpauth://"):
            totp = pyotp.parse_uri(seed)
        else:
            totp = pyotp.TOTP(seed.replace(" ", "").replace("-", ""))
        usable = (
            isinstance(totp, pyotp.TOTP) and 0 < totp.interval <= MAX_PERIOD and len(totp.byte_secret()) > 0
        )
    except (ValueError, binascii.Error):
        usable = False
    if not usable or not isinstance(totp, pyotp.TOTP):
        raise ValueError("no base32 seed and no otpauth://totp/ address")
    return totp


def current_code(seed: str) -> TotpCode:
    """The code of this moment: the clock is the world's, as the system under test reads its own."""
    totp, now = read_seed(seed), time.time()
    return TotpCode(
        totp.generate_otp(int(now // totp.interval)), round(totp.interval - now % totp.interval, 3)
    )
