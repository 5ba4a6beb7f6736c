"""Credentials that can be found again wherever they turn up, and in whatever form."""

import base64
import re
import time
from functools import cache
from urllib.parse import quote

import pyotp

PERIOD = 1
"""Seconds. A code of such a short period is always good enough to be given, and the next one comes soon."""


class Canaries:
    def __init__(self) -> None:
        self._named: list[tuple[str, str]] = []
        self._seeds: list[tuple[str, str, float]] = []

    def add(self, name: str, value: str) -> str:
        """Several may have one name: it says of what kind they are."""
        assert len(value) >= 12, "what is short is found everywhere"
        self._named.append((name, value))
        return value

    def add_codes_of(self, name: str, seed: str) -> str:
        """From now on, each code of this seed; gives the address that makes the farm compute them."""
        self._seeds.append((name, seed, time.time()))
        return f"otpauth://totp/farm?secret={seed}&digits=10&period={PERIOD}"

    @property
    def values(self) -> list[str]:
        return [value for _, value in self._named]

    def in_text(self, text: str) -> set[str]:
        """The names of those that the text has."""
        found = {name for name, value in self._named if any(form in text for form in _forms(value))}
        for name, seed, since in self._seeds:
            if re.search(rf"(?<![\w-])({'|'.join(_codes(seed, since))})(?![\w-])", text):
                found.add(name)
        return found


@cache
def _forms(value: str) -> set[str]:
    raw = value.encode()
    # The base64 of a text depends on the length of what precedes it. The ends are cut, because they encode
    # neighbouring bytes, too.
    aligned = {
        base64.b64encode(b"\0" * before + raw).decode()[4 if before else 0 : -4] for before in range(3)
    }
    urlsafe = {form.translate(str.maketrans("+/", "-_")) for form in aligned}
    return {value, quote(value, safe=""), raw.hex(), value[::-1], *aligned, *urlsafe}


def _codes(seed: str, since: float) -> list[str]:
    """From then to now, and the next one: clocks are read one after the other."""
    first, now = int(since // PERIOD), int(time.time() // PERIOD)
    return [_code(seed, step) for step in range(first, now + 2)]


@cache
def _code(seed: str, step: int) -> str:
    return pyotp.TOTP(seed, digits=10, interval=PERIOD).generate_otp(step)
