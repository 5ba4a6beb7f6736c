"""One chaos run: a farm, its clients and its faults, from the first call to the checker's answer."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from chaos.caller import Caller, Record, http_client
from chaos.checker import Findings, examine, passwords_of, read_kept
from chaos.checker.left import logs_in, write_kept
from chaos.clients.administrators import Administrator
from chaos.clients.keepers import do_chores
from chaos.clients.people import Lead
from chaos.clients.readers import Reader
from chaos.clients.runners import run_tests
from chaos.closing import come_to_rest
from chaos.database import chaos_database
from chaos.history import Recorder, read_history
from chaos.nemesis import Nemesis
from chaos.opening import callers_by_token, fill
from chaos.plan import Plan
from chaos.processes import ChaosFarm, chaos_farm
from chaos.tally import Tally
from support.farm import TOKEN
from support.postgres import temporary_folder

HISTORY = "history.jsonl"
PROGRESS_EVERY = 10.0
Client = Coroutine[Any, Any, None]


async def run(plan: Plan, folder: Path) -> tuple[Tally, Findings]:
    """Leaves in the folder what can be checked again: the history, what the database kept, and all logs."""
    with temporary_folder() as place:
        async with chaos_database(place, folder) as database:
            await database.add_standby()
            with (folder / HISTORY).open("w") as file:
                tally = Tally(Recorder(file))
                async with (
                    chaos_farm(database, folder, tally, steps_clock=plan.steps_clock) as farm,
                    _clients(plan, farm, tally) as (clients, closing),
                ):
                    await _go_on(plan, farm, tally, clients)
                    print("all clients and faults have ended", flush=True)
                    await closing()
            print("all leases have ended; checking", flush=True)
            history = read_history(folder / HISTORY)
            kept = await read_kept(database.url, passwords_of(history))
            write_kept(kept, folder)
    return tally, examine(history, kept, logs=logs_in(folder))


@asynccontextmanager
async def _clients(
    plan: Plan, farm: ChaosFarm, record: Record
) -> AsyncIterator[tuple[list[Client], Callable[[], Client]]]:
    """All clients of the plan, which go on until they are cancelled, and the one that comes after them."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(http_client())
        admin = Caller(
            "admin", "token:bootstrap", TOKEN, [each.origin for each in farm.replicas], http, record
        )
        project_ids = await fill(farm, admin, list(plan.readers))
        by_token = await callers_by_token(admin)

        def caller(token: str, name: str) -> Caller:
            return replace(by_token[token], name=name)

        clients: list[Client] = []
        for number, (name, tests) in enumerate(plan.runners.items()):
            clients.append(run_tests(caller("nightly" if number % 3 == 0 else "ci", name), tests))
        for name, chores in plan.keepers.items():
            clients.append(do_chores(caller("keeper", name), chores))
        for name, deeds in plan.leads.items():
            clients.append(Lead(caller("lead", name), project_ids).go_on(deeds))
        for name, deeds in plan.administrators.items():
            clients.append(Administrator(replace(admin, name=name), project_ids).go_on(deeds))
        for name, deeds in plan.readers.items():
            browser = await stack.enter_async_context(http_client())
            reader = Reader(replace(admin, name=name, principal=f"operator:{name}", token="", http=browser))
            clients.append(reader.go_on(deeds))
        closing = caller("lead", "closing"), caller("keeper", "closing")
        yield clients, partial(come_to_rest, farm, *closing, steps_clock=plan.steps_clock)


async def _go_on(plan: Plan, farm: ChaosFarm, tally: Tally, clients: list[Client]) -> None:
    """Until the plan's time is over and its last fault is undone."""
    start = time.monotonic()
    nemesis = Nemesis(farm, tally)
    async with asyncio.TaskGroup() as everything:
        endless = [everything.create_task(each) for each in (*clients, _report(tally, start))]
        async with asyncio.TaskGroup() as lanes:
            for faults in plan.faults.values():
                lanes.create_task(nemesis.run(faults, start))
            lanes.create_task(asyncio.sleep(plan.seconds))
        for task in endless:
            task.cancel()


async def _report(tally: Tally, start: float) -> None:
    while True:
        await asyncio.sleep(PROGRESS_EVERY)
        print(f"{time.monotonic() - start:.0f} s: {tally.line()}", flush=True)
