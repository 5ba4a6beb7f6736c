"""A farm to hold to its contract, real or fake: the same project, the same users, the same requests."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import httpx
from fastapi import FastAPI
from starlette.types import ASGIApp

from botfarm_client.connection.api_calls import API
from botfarm_client.testing import FakeFarm, FakePolicy, FakeUser
from support.app import api_client
from support.breakages import connection_to
from support.farm import test_settings
from support.http import create_project, create_user
from support.time_travel import pass_time

FarmOf = Callable[..., Awaitable["Subject"]]
LEASE = {"project": "shop", "env": "stage"}
SEED = "JBSWY3DPEHPK3PXP"
POLICY = FakePolicy(default_ttl=60, max_ttl=120, max_hold=200, lock_delay=30, cooldown=0)


@dataclass(frozen=True)
class Subject:
    api: httpx.AsyncClient
    end_by_time: Callable[[str], Awaitable[None]]
    """The lease of this id expires."""
    pass_time: Callable[[float], Awaitable[None]]
    """So many seconds go by."""

    async def acquire(self, key: str | None = None, **wanted: Any) -> httpx.Response:
        headers = {"Idempotency-Key": key} if key else {}
        return await self.api.post("/leases", json={**LEASE, **wanted}, headers=headers, timeout=30)

    async def taken(self, key: str | None = None, **wanted: Any) -> dict[str, Any]:
        answer = await self.acquire(key, **wanted)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def chore(self, **wanted: Any) -> dict[str, Any]:
        return await self.taken(purpose="chore", **wanted)

    async def post(self, lease: dict[str, Any], verb: str, **body: Any) -> httpx.Response:
        return await self.api.post(f"/leases/{lease['id']}/{verb}", json=body)

    async def change(self, user_id: str, action: str, **body: Any) -> httpx.Response:
        return await self.api.post(f"/users/{user_id}/{action}", json=body)

    async def seen(self, user_id: str) -> dict[str, Any]:
        answer = await self.api.get(f"/users/{user_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


@asynccontextmanager
async def fake_subject(
    users: Sequence[FakeUser], policy: FakePolicy, max_leases: int | None
) -> AsyncIterator[Subject]:
    farm = FakeFarm(users, policy=policy, max_leases=max_leases)

    async def end_by_time(lease_id: str) -> None:
        farm.expire(lease_id)

    async def pass_time(seconds: float) -> None:
        farm.advance(seconds)

    async with httpx.AsyncClient(
        transport=farm.transport,
        base_url=f"http://fake.test{API}",
        headers={"Authorization": f"Bearer {farm.token}"},
    ) as api:
        yield Subject(api, end_by_time, pass_time)


@asynccontextmanager
async def real_subject(
    database_url: str,
    users: Sequence[FakeUser],
    policy: FakePolicy,
    max_leases: int | None,
    *,
    way: Callable[[FastAPI], ASGIApp] | None = None,
) -> AsyncIterator[Subject]:
    async with (
        connection_to(database_url) as sql,
        api_client(test_settings(database_url), way=way) as api,
    ):
        project_id = await create_project(api, **vars(policy))
        for user in users:
            fields = {
                "login": user.login,
                "password": user.password,
                "env": user.env,
                "domain": user.domain,
                "labels": dict(user.labels),
                "secrets": user.secrets,
            }
            await create_user(api, project_id, **fields, **({"totp_seed": SEED} if user.totp else {}))
        if max_leases is not None:
            wanted = {"name": "ci", "role": "manager", "projects": ["*"], "envs": ["*"]}
            made = await api.post("/tokens", json={**wanted, "max_leases": max_leases})
            api.headers["Authorization"] = f"Bearer {made.json()['token']}"

        async def end_by_time(lease_id: str) -> None:
            left = await sql.fetchval(
                "SELECT expires_at - clock_timestamp() FROM leases WHERE id = $1", UUID(lease_id)
            )
            await sql.execute(
                """UPDATE leases SET acquired_at = acquired_at - $2::interval,
                       expires_at = expires_at - $2::interval, hold_until = hold_until - $2::interval
                   WHERE id = $1""",
                UUID(lease_id),
                left,
            )
            await sql.execute(
                """UPDATE users SET locktime = locktime - $2::interval,
                       expires_at = expires_at - $2::interval, available_at = available_at - $2::interval
                   WHERE lease_id = $1""",
                UUID(lease_id),
                left,
            )

        yield Subject(api, end_by_time, partial(pass_time, sql))


def user(number: int, **fields: Any) -> FakeUser:
    return FakeUser(f"user-{number}@shop.test", **fields)


def users(count: int) -> list[FakeUser]:
    return [user(number) for number in range(count)]


def in_seconds(seconds: float) -> str:
    """A moment from now."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def problem(answer: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    document = dict(answer.json())
    assert (answer.status_code, document["type"]) == (status, f"urn:botfarm:problem:{slug}"), document
    assert answer.headers["content-type"] == "application/problem+json"
    assert {"title", "status", "detail", "request_id"} <= set(document)
    return document


def wrong_fields(answer: httpx.Response) -> list[str]:
    return [error["field"] for error in problem(answer, 422, "invalid-request")["errors"]]
