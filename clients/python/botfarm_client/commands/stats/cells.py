"""How the tables of statistics write their numbers."""

from botfarm_client.shared.durations import format_duration


def wait(seconds: float | None) -> str:
    """`0.3s`, `12s`, `2m5s`; empty for None."""
    if seconds is None:
        return ""
    return format_duration(seconds) if round(seconds, 1) >= 10 else f"{seconds:.1f}s"  # noqa: PLR2004


def percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"
