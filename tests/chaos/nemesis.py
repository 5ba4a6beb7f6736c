"""What goes wrong in a chaos run: each planned fault is done, lasts its time, is undone and recorded."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import asyncpg

from chaos.caller import Record
from chaos.clock import step
from chaos.history import BREAKDOWN, CLOCK_STEP, Fault
from chaos.plan import PlannedFault
from chaos.processes import ChaosFarm, CommandError, FarmProcess

DELAY = 0.15
"""Seconds on each piece of a delayed connection, in each direction."""
INSISTS_FOR = 30.0
"""Seconds for which an operator tries again while the database is away."""
Done = TypeVar("Done")


class NotDoneError(Exception):
    """The database was away."""


class Nemesis:
    def __init__(self, farm: ChaosFarm, record: Record) -> None:
        self._farm = farm
        self._record = record
        self._keys = 1
        self._on_process: Mapping[str, Callable[[FarmProcess, float], Awaitable[str]]] = {
            "kill": self._kill,
            "terminate": self._terminate,
            "pause": self._pause,
        }
        self._on_network: Mapping[str, Callable[[FarmProcess, float], Awaitable[str]]] = {
            "cut": self._cut,
            "delay": self._delay,
            "silence": self._silence,
            "lose_answers": self._lose_answers,
            "vanish": self._vanish,
        }
        self._on_farm: Mapping[str, Callable[[float], Awaitable[str]]] = {
            "crash": self._crash,
            "restart": self._restart,
            "promote": self._promote,
            "upgrade": self._upgrade,
            "rotate_keys": self._rotate_keys,
            CLOCK_STEP: self._step_clock,
            "end_sessions": self._end_sessions,
            "lock_users": self._lock_users,
            "lock_tables": self._lock_tables,
        }

    async def run(self, faults: list[PlannedFault], start: float) -> None:
        """Does the faults of one lane, one after the other."""
        for fault in faults:
            await asyncio.sleep(start + fault.at - time.monotonic())
            began_at = time.monotonic()
            process = self._farm.processes.get(fault.target)
            origin = process.origin if process else ""
            note, is_done = await self._try(fault, origin)
            stepped = fault.seconds if fault.kind == CLOCK_STEP else 0.0
            self._record.add(
                Fault(fault.kind, fault.target, began_at, time.monotonic(), note, origin, is_done, stepped)
            )

    async def _try(self, fault: PlannedFault, origin: str) -> tuple[str, bool]:
        """A note, and whether it was done. What fails is a breakdown; the run goes on, so that the checker speaks."""
        began_at = time.monotonic()
        try:
            return await self._do(fault), True
        except NotDoneError as error:
            return f"not done: {error}", False
        except Exception as error:  # noqa: BLE001  whatever it is
            note = f"{fault.kind} failed: {type(error).__name__}: {error}".splitlines()[0]
            self._record.add(Fault(BREAKDOWN, fault.target, began_at, time.monotonic(), note, origin))
            return note, False

    async def _do(self, fault: PlannedFault) -> str:
        if on_farm := self._on_farm.get(fault.kind):
            return await on_farm(fault.seconds)
        process = self._farm.processes[fault.target]
        if on_network := self._on_network.get(fault.kind):
            async with process.network:
                return await on_network(process, fault.seconds)
        async with process.turn:
            return await self._on_process[fault.kind](process, fault.seconds)

    async def _kill(self, process: FarmProcess, seconds: float) -> str:
        await process.kill()
        await self._start_again(process, seconds)
        return ""

    async def _terminate(self, process: FarmProcess, seconds: float) -> str:
        took = await process.terminate()
        await self._start_again(process, seconds)
        return f"it ended after {took:.1f} s"

    async def _start_again(self, process: FarmProcess, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._farm.start(process)

    async def _pause(self, process: FarmProcess, seconds: float) -> str:
        process.pause()
        try:
            await asyncio.sleep(seconds)
        finally:
            process.resume()
        return ""

    async def _cut(self, process: FarmProcess, seconds: float) -> str:
        await process.proxy.cut()
        try:
            await asyncio.sleep(seconds)
        finally:
            await process.proxy.mend()
        return ""

    async def _delay(self, process: FarmProcess, seconds: float) -> str:
        process.proxy.delay = DELAY
        try:
            await asyncio.sleep(seconds)
        finally:
            process.proxy.delay = 0.0
        return f"{DELAY} s"

    async def _silence(self, process: FarmProcess, seconds: float) -> str:
        process.proxy.silence()
        return await self._speak_after(process, seconds)

    async def _lose_answers(self, process: FarmProcess, seconds: float) -> str:
        process.proxy.lose_answers()
        return await self._speak_after(process, seconds)

    async def _vanish(self, process: FarmProcess, seconds: float) -> str:
        """Its sessions stay, with what they have locked, while the process is there again and has others."""
        process.proxy.hide_ends()
        async with process.turn:
            await process.kill()
            await self._farm.start(process)
        return await self._speak_after(process, seconds)

    async def _speak_after(self, process: FarmProcess, seconds: float) -> str:
        try:
            await asyncio.sleep(seconds)
        finally:
            process.proxy.speak()
        return ""

    async def _crash(self, seconds: float) -> str:
        await self._farm.database.crash(seconds)
        return ""

    async def _restart(self, seconds: float) -> str:
        await self._farm.database.restart(seconds)
        return ""

    async def _promote(self, seconds: float) -> str:
        await self._farm.database.fail_over(seconds)
        self._farm.lead_to_primary()
        await self._farm.database.add_standby()
        return ""

    async def _step_clock(self, seconds: float) -> str:
        await self._insist(lambda: step(self._farm.database.url, seconds))
        return f"by {seconds:+} s"

    async def _end_sessions(self, _: float) -> str:
        """As a pooler or an operator does; those of the standby stay."""
        return await self._at_psql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'botfarm_app'", 0
        )

    async def _lock_users(self, seconds: float) -> str:
        """Somebody has changed a third of the users in a transaction that is still open."""
        return await self._at_psql(
            "BEGIN; SELECT FROM users WHERE hashtext(id::text) % 3 = 0 FOR UPDATE", seconds
        )

    async def _lock_tables(self, seconds: float) -> str:
        """As a migration that waits for nobody."""
        return await self._at_psql("BEGIN; LOCK TABLE leases, users IN ACCESS EXCLUSIVE MODE", seconds)

    async def _at_psql(self, statements: str, seconds: float) -> str:
        """Somebody at the terminal, who does not insist."""
        try:
            connection = await asyncpg.connect(self._farm.database.url, timeout=5)
            try:
                await connection.execute(statements, timeout=5)
                await asyncio.sleep(seconds)
            finally:
                await connection.close(timeout=5)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise NotDoneError(type(error).__name__) from error
        return ""

    async def _upgrade(self, _: float) -> str:
        """As a new version is rolled out: the schema first, then replica after replica."""
        await self._command("migrate")
        await self._restart_all()
        return ""

    async def _rotate_keys(self, _: float) -> str:
        """As docs/keys.md says, with a rollout after each step."""
        former, self._keys = f"k{self._keys}", self._keys + 1
        key = f"k{self._keys}"
        for _ in range(2):  # the first makes the key, the second moves it to the front
            self._farm.ring = (await self._command("keys", "rotate", "--id", key)).strip()
            await self._restart_replicas()
        await self._command("keys", "reencrypt")
        self._farm.ring = (await self._command("keys", "drop", former)).strip()
        await self._restart_replicas()
        return f"{former} to {key}"

    async def _restart_all(self) -> None:
        await self._restart_replicas()
        await self._restart_one(self._farm.processes["worker"])

    async def _restart_replicas(self) -> None:
        for process in self._farm.replicas:
            await self._restart_one(process)

    async def _restart_one(self, process: FarmProcess) -> None:
        async with process.turn:
            await process.terminate()
            await self._farm.start(process)

    async def _command(self, *arguments: str) -> str:
        return await self._insist(lambda: self._farm.command(*arguments))

    async def _insist(self, act: Callable[[], Awaitable[Done]]) -> Done:
        """Until it is done, because the database may be away."""
        deadline = time.monotonic() + INSISTS_FOR
        while True:
            try:
                return await act()
            except (CommandError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.5)
