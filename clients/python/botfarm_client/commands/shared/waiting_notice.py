import sys
from collections.abc import Iterator
from contextlib import contextmanager

from botfarm_client.shared.durations import format_duration


@contextmanager
def waiting_notice(seconds: int) -> Iterator[None]:
    """Shows a spinner on a terminal while a command waits."""
    if not seconds or sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console  # noqa: PLC0415  only on a terminal

    with Console(stderr=True).status(f"Waiting, {format_duration(seconds)} at most; Ctrl-C gives up"):
        yield
