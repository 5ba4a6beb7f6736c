"""The processes of the farm: API replicas and a worker, each with a proxy of its own before the database."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from chaos.caller import Record
from chaos.clock import make_steppable
from chaos.database import ChaosDatabase
from chaos.history import BREAKDOWN, Fault
from chaos.plan import PROCESSES
from chaos.pooler import Pooler
from chaos.stock import ENCRYPTION_KEYS
from support.farm import TOKEN
from support.live_farm import free_port
from support.pgbouncer import find_pgbouncer
from support.postgres import served, two_roles
from support.processes import CHECKOUT, Process, run_botfarm, start_botfarm
from support.proxy import Proxy, proxy_to

STOPS_WITHIN = 30.0
"""Seconds that a process may take to end after SIGTERM."""


POOLED = "replica-3"
"""It reaches the database through PgBouncer, where that is installed."""


class FarmProcess:
    """One `botfarm serve` or `botfarm worker`, which may be started many times, always on the same port."""

    def __init__(self, name: str, proxy: Proxy, log: Path, record: Record) -> None:
        """`record` gets a breakdown when the process ends by itself, or does not end when it should."""
        self.name = name
        self.proxy = proxy
        self.further_settings: Mapping[str, str] = {}
        self.port = free_port()
        self.turn = asyncio.Lock()
        """Held by the fault or operation that does something to this process."""
        self.network = asyncio.Lock()
        """Held by the fault that does something to its connections."""
        self._log = log
        self._record = record
        self._process: Process | None = None

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self, environment: Mapping[str, str]) -> None:
        """Returns when it serves, whether the database is there or not."""
        command = "worker" if self.name == "worker" else "serve"
        port = {"BOTFARM_PORT": str(self.port), "BOTFARM_WORKER_PORT": str(self.port)}
        process = await asyncio.to_thread(
            Process, (command,), {**environment, **port}, CHECKOUT, start_botfarm
        )
        self._process = process
        await asyncio.to_thread(process.url)

    async def kill(self) -> None:
        await self._end(signal.SIGKILL)

    async def terminate(self) -> float:
        """Returns the seconds it took. A process that does not end by itself is killed."""
        return await self._end(signal.SIGTERM)

    def pause(self) -> None:
        self._signal(self._process, signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(self._process, signal.SIGCONT)

    def broke_down(self, what: str, since: float) -> None:
        self._record.add(Fault(BREAKDOWN, self.name, since, time.monotonic(), what, self.origin))

    def _signal(self, process: Process | None, number: signal.Signals) -> None:
        """One that has ended by itself gets none; that is recorded at its planned end."""
        assert process is not None
        if process.exit_code is None:
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)

    async def _end(self, number: signal.Signals) -> float:
        process, self._process = self._process, None
        if process is None:
            return 0.0
        started = time.monotonic()
        if process.exit_code is not None:
            self.broke_down(f"ended by itself, with {process.exit_code}", started)
        try:
            self._signal(process, number)
            await asyncio.to_thread(process.wait, seconds=STOPS_WITHIN)
        except subprocess.TimeoutExpired:
            self.broke_down(f"did not end within {STOPS_WITHIN:.0f} s after {number.name}", started)
            process.kill()
        finally:
            seconds = time.monotonic() - started
            process.end()
            with self._log.open("a") as log:
                log.write(process.output)
        return seconds


class ChaosFarm:
    def __init__(self, database: ChaosDatabase, processes: Mapping[str, FarmProcess]) -> None:
        self.database = database
        self.processes = processes
        self.ring = ENCRYPTION_KEYS

    @property
    def replicas(self) -> list[FarmProcess]:
        return [process for name, process in self.processes.items() if name != "worker"]

    async def start(self, process: FarmProcess) -> None:
        await process.start(
            {
                **self.environment(process.proxy.url),
                **process.further_settings,
                "BOTFARM_REAP_INTERVAL": "1",
                "BOTFARM_GAUGES_INTERVAL": "2",
                "BOTFARM_DATABASE_POOL_SIZE": "6",
                "BOTFARM_COOKIE_INSECURE": "1",
            }
        )

    async def command(self, *arguments: str, stdin: str = "") -> str:
        """Runs `botfarm` past the proxies. Gives what it prints; raises CommandError."""
        environment = self.environment(self.database.url)
        done = await asyncio.to_thread(run_botfarm, *arguments, environment=environment, stdin=stdin)
        if done.returncode:
            raise CommandError(f"botfarm {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def environment(self, database_url: str) -> dict[str, str]:
        return {
            **two_roles(database_url),
            "BOTFARM_ENCRYPTION_KEYS": self.ring,
            "BOTFARM_BOOTSTRAP_TOKEN": TOKEN,
        }

    def lead_to_primary(self) -> None:
        """After the promotion of a standby. Connections to the old primary have ended with it."""
        for process in self.processes.values():
            process.proxy.aim(self.database.url)


class CommandError(Exception):
    pass


@asynccontextmanager
async def chaos_farm(
    database: ChaosDatabase, logs: Path, record: Record, *, steps_clock: bool
) -> AsyncIterator[ChaosFarm]:
    """`record` gets the faults that nobody planned."""
    async with AsyncExitStack() as stack:
        processes = {
            name: FarmProcess(
                name, await stack.enter_async_context(proxy_to(database.url)), logs / f"{name}.log", record
            )
            for name in PROCESSES
        }
        farm = ChaosFarm(database, processes)
        await farm.command("migrate")
        if steps_clock:
            await make_steppable(database.url)
        pooled = processes[POOLED]
        if program := find_pgbouncer():
            pooler = Pooler(program, served(pooled.proxy.url), logs / "pgbouncer.log")
            settings = pooler.running(pooled.origin, record)
            pooled.further_settings = await stack.enter_async_context(settings)
        else:
            print(f"pgbouncer is not installed: {POOLED} reaches the database without it")
        for process in processes.values():
            stack.push_async_callback(process.kill)
        for process in processes.values():
            await farm.start(process)
        yield farm
