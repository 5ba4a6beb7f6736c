"""Runs a process: with uvloop where there is one, and a `stop` event that SIGINT, SIGTERM and SIGHUP set."""

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import uvicorn

from botfarm.process.open_files import raise_file_limit

Main = Callable[[asyncio.Event], Coroutine[Any, Any, None]]
# Windows has no SIGHUP.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def run_until_signalled(main: Main) -> None:
    """Runs `main(stop)` to its end. A second signal cancels it.

    Raises the limit of open files to what the system allows.
    """
    raise_file_limit()
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    loop_factory = uvicorn.Config("", log_config=None).get_loop_factory()
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(_with_signals(main))
    except asyncio.CancelledError:
        sys.exit(128 + signal.SIGINT)
    finally:
        # The loop restores the default handlers, which would end this process before it has cleaned up.
        for number, handler in handlers.items():
            signal.signal(number, handler)


async def _with_signals(main: Main) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()

    def signalled() -> None:
        if stop.is_set() and task:
            logging.getLogger("uvicorn").setLevel(
                logging.CRITICAL
            )  # else uvicorn logs the traceback of its cancellation
            task.cancel()
        stop.set()

    for number in SIGNALS:
        if number.name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores it
            loop.add_signal_handler(number, signalled)
    await main(stop)
