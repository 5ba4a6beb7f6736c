import sys
from collections.abc import Iterator
from contextlib import contextmanager

from botfarm_client.shared.durations import format_duration


@contextmanager
def waiting_notice(seconds: int) -> Iterator[None]:
    """Something moves where somebody looks."""
    if not seconds or sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console  # noqa: PLC0415  only where somebody looks

    with Console(stderr=True).status(f"Waiting, {format_duration(seconds)} at most; Ctrl-C gives up"):
        yield
