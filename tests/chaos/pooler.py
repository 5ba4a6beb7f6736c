"""PgBouncer before one replica. It is started again when it ends by itself, as a service manager does.

PgBouncer 1.18 can end so ("FATAL ... bad client state"), when its clients are killed while it cancels a statement.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from chaos.caller import Record
from chaos.history import Fault
from support.live_farm import free_port
from support.pgbouncer import pgbouncer

SESSIONS = 4


class Pooler:
    def __init__(self, program: str, url: str, log: Path) -> None:
        self._program = program
        self._url = url
        self._log = log
        self._port = free_port()
        self._pooled_url = ""

    @asynccontextmanager
    async def running(self, origin: str, record: Record) -> AsyncIterator[Mapping[str, str]]:
        """The settings of the replica with this origin, whose proxy is between PgBouncer and the database."""
        started, over = asyncio.Event(), asyncio.Event()
        supervising = asyncio.create_task(self._supervise(origin, record, started, over))
        while not started.is_set():
            if supervising.done():
                supervising.result()  # raises why it did not start
            await asyncio.sleep(0.05)
        try:
            yield {
                "BOTFARM_DATABASE_URL": self._pooled_url,
                "BOTFARM_LISTEN_URL": self._url,
                "BOTFARM_DB_POOLER": "transaction",
            }
        finally:
            over.set()
            await supervising

    async def _supervise(
        self, origin: str, record: Record, started: asyncio.Event, over: asyncio.Event
    ) -> None:
        while not over.is_set():
            with pgbouncer(self._program, self._url, sessions=SESSIONS, port=self._port) as (process, url):
                self._pooled_url = url
                started.set()
                while process._process.poll() is None and not over.is_set():
                    await asyncio.sleep(0.1)
                ended_at = time.monotonic()
            with self._log.open("a") as log:
                log.write(process.output)
            if not over.is_set():
                last_line = process.output.splitlines()[-1]
                record.add(Fault("pooler_ended", "pgbouncer", ended_at, time.monotonic(), last_line, origin))
