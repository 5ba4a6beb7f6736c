"""The history of a real farm is clean, though its clients retry, hang up, wait and let leases expire."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any

import httpx

from chaos.checker import check, passwords_of, read_kept
from chaos.history import CANARY, Call, History
from support.app import on_a_socket
from support.farm import TOKEN, test_settings

USERS = 4


@dataclass
class Client:
    """Records each call, as the runners of a chaos run do."""

    name: str
    http: httpx.AsyncClient
    history: History
    replicas: Sequence[str]
    random: Random

    async def call(
        self,
        operation: str,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        patience: float = 30,
    ) -> Call:
        replica = self.random.choice(self.replicas)
        path = f"/api/v1{path}"
        headers = {"Idempotency-Key": key} if key else {}
        seen: dict[str, Any] = {}
        sent_at = time.monotonic()
        try:
            async with asyncio.timeout(patience):
                answer = await self.http.request(method, replica + path, headers=headers, json=body)
            is_json = "json" in answer.headers.get("content-type", "")
            seen["status"], seen["answer"] = answer.status_code, answer.json() if is_json else answer.text
            seen["content_type"] = answer.headers.get("content-type", "")
        except TimeoutError:
            seen["error"] = "hung up"
        call = Call(
            client=self.name,
            operation=operation,
            method=method,
            path=path,
            replica=replica,
            sent_at=sent_at,
            ended_at=time.monotonic(),
            principal="bootstrap",
            key=key,
            body=body,
            **seen,
        )
        self.history.calls.append(call)
        return call


async def run_tests(client: Client, keys: "count[int]", until: float) -> None:
    """Acquires, sometimes under a key and more than once, and renews, releases or leaves."""
    while time.monotonic() < until:
        body = {
            "project": "shop",
            "env": "stage",
            "ttl_seconds": 1,
            "wait_seconds": client.random.choice([0, 2, 4]),
        }
        body |= {"count": client.random.choice([1, 1, 1, 2]), "priority": client.random.choice([0, 0, 1])}
        key = f"key-{next(keys)}" if client.random.random() < 0.5 else None
        patience = client.random.choice([0.05, 30, 30, 30])
        call = await client.call("acquire_lease", "POST", "/leases", body, key=key, patience=patience)
        if key and call.status is None:
            call = await client.call("acquire_lease", "POST", "/leases", body, key=key)
        if call.status not in {200, 201}:
            continue
        lease = call.answer["id"]
        for _ in range(client.random.choice([0, 1, 3])):
            await asyncio.sleep(0.3)
            await client.call("renew_lease", "POST", f"/leases/{lease}/renew", {})
        if client.random.random() < 0.8:
            outcome = {"outcome": client.random.choice(["ok", "ok", "dirty"])}
            await client.call("release_lease", "POST", f"/leases/{lease}/release", outcome)


async def run_chores(client: Client, until: float) -> None:
    """Cleans users and changes their passwords; sometimes leaves a rotation half-way."""
    while time.monotonic() < until:
        await clean_one(client, wait=1, is_thorough=client.random.random() < 0.7)


async def clean_one(client: Client, *, wait: int, is_thorough: bool) -> bool:
    """Whether there was a user to clean."""
    body = {"project": "shop", "env": "stage", "ttl_seconds": 1, "wait_seconds": wait, "purpose": "chore"}
    call = await client.call("acquire_lease", "POST", "/leases", body)
    if call.status != 201:
        return False
    lease, user = call.answer["id"], call.answer["users"][0]["id"]
    path = f"/leases/{lease}/users/{user}/rotation"
    await client.call("start_rotation", "POST", path, {})
    if is_thorough:
        await client.call("confirm_rotation", "POST", f"{path}/confirm")
        await client.call("release_lease", "POST", f"/leases/{lease}/release", {"outcome": "ok"})
    return True


async def test_a_short_run_of_a_real_farm_is_clean(database_url: str) -> None:
    history, settings = History(), test_settings(database_url)
    seed = Random()
    keys = count(1)
    async with (
        on_a_socket(settings) as first,
        on_a_socket(settings) as second,
        httpx.AsyncClient(
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=60,
            limits=httpx.Limits(max_connections=None),
        ) as http,
    ):
        names = [*(f"runner-{number}" for number in range(10)), "keeper-1", "manager"]
        clients = [
            Client(name, http, history, [first, second], random=Random(seed.random())) for name in names
        ]
        manager = clients[-1]
        policy = {"lock_delay": 0, "cleaning": "on_dirty", "clean_attempts": 100, "quarantine_after": 0}
        project = await manager.call("create_project", "POST", "/projects", {"name": "shop", **policy})
        user = {"project_id": project.answer["id"], "env": "stage", "domain": "regular"}
        for number in range(USERS):
            await manager.call(
                "create_user",
                "POST",
                "/users",
                {**user, "login": f"u{number}@shop.test", "password": f"x-{CANARY}"},
            )
        until = time.monotonic() + 4
        async with asyncio.TaskGroup() as tasks:
            for client in clients[:10]:
                tasks.create_task(run_tests(client, keys, until))
            tasks.create_task(run_chores(clients[10], until))
        quarantined = (await manager.call("get_users", "GET", "/users")).answer["items"][0]["id"]
        path = f"/users/{quarantined}"
        await manager.call("quarantine_user", "POST", f"{path}/quarantine", {"reason": "enough"})
        await asyncio.sleep(
            1.5
        )  # the longest TTL: nothing says that a lease has expired before it is asked for
        await manager.call("get_user", "GET", path)
        await manager.call("restore_user", "POST", f"{path}/restore", {})
        while await clean_one(clients[10], wait=0, is_thorough=True):
            pass
    violations = check(history, await read_kept(database_url, passwords_of(history)))
    assert not violations, "\n".join(map(str, violations))
    granted = [call for call in history.calls if call.status == 201 and call.operation == "acquire_lease"]
    assert len(granted) > 10
