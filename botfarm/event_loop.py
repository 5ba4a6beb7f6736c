"""One way to run a process: uvloop where there is one, and a `stop` event that SIGINT and SIGTERM set."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import uvicorn

Main = Callable[[asyncio.Event], Coroutine[Any, Any, None]]


def run_until_signalled(main: Main) -> None:
    """Runs `main(stop)` to its end; a second signal while it stops is the impatient person's and ends it at once."""
    with asyncio.Runner(loop_factory=uvicorn.Config("", log_config=None).get_loop_factory()) as runner:
        runner.run(_with_signals(main))


async def _with_signals(main: Main) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()

    def signalled() -> None:
        if stop.is_set() and task:
            task.cancel()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, signalled)
    await main(stop)
