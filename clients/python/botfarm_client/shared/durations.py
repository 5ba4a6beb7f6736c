"""Durations and points in time, as people write and read them."""

import re
from datetime import UTC, datetime, timedelta

_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_WRITTEN = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", re.ASCII)
# Characters. A longer text is a slip of the keyboard.
_LONGEST = 12


class TimeFormatError(ValueError):
    """The text is neither a duration nor a moment. The message says how one is written."""


def parse_duration(text: str) -> int:
    """The seconds of `90`, `90s`, `15m`, `2h`, `1h30m`, `90d`. Raises TimeFormatError."""
    written = text.strip().lower()
    found = _WRITTEN.fullmatch(written)
    if not written or found is None or len(written) > _LONGEST:
        raise TimeFormatError("a duration is written as 90, 90s, 15m, 2h, 1h30m or 90d")
    return sum(int(count or 0) * unit for count, unit in zip(found.groups(), _UNITS.values(), strict=True))


def parse_moment(text: str) -> str:
    """The moment in ISO 8601.

    A text without a zone is UTC; a duration counts back from now, by this machine's clock.

    Raises TimeFormatError.
    """
    try:
        return (datetime.now(UTC) - timedelta(seconds=parse_duration(text))).isoformat()
    except (TimeFormatError, OverflowError):
        pass
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise TimeFormatError(
            "a moment is written as 2026-11-23 or 2026-11-23T15:30Z, or as a duration back from now: 2h"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()


def format_duration(seconds: float) -> str:
    """The two largest units: `1d2h`, `15m`, `42s`."""
    left = max(0, round(seconds))
    parts: list[str] = []
    for name, unit in _UNITS.items():
        count, left = divmod(left, unit)
        if count and len(parts) < 2:  # noqa: PLR2004  as the docstring says
            parts.append(f"{count}{name}")
        elif parts:
            break
    return "".join(parts) or "0s"


def format_moment(timestamp: str | None, *, now: datetime | None = None) -> str:
    """`2026-11-23 15:34:25 UTC (3m ago)`."""
    if timestamp is None:
        return ""
    return f"{format_utc(timestamp)} UTC ({format_relative(timestamp, now=now)})"


def format_utc(timestamp: str) -> str:
    """`2026-11-23 15:34:25`."""
    return f"{datetime.fromisoformat(timestamp).astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def format_relative(timestamp: str | None, *, now: datetime | None = None) -> str:
    """`3m ago`, `in 15m`. By this machine's clock, so not for scripts."""
    if timestamp is None:
        return ""
    seconds = (datetime.fromisoformat(timestamp) - (now or datetime.now(UTC))).total_seconds()
    return f"in {format_duration(seconds)}" if seconds > 0 else f"{format_duration(-seconds)} ago"
