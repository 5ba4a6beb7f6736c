"""A farm that is held to the contract, real and fake; and one that is held to a model."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

import httpx
import pytest
import uvicorn

from botfarm.db.leasing import pool_grant_queries
from botfarm.domain.access import Role
from botfarm.services.access import passwords
from botfarm.services.granting import grants
from botfarm.services.stock import importing, users
from botfarm_client.testing import FakePolicy, FakeUser
from support.conformance import POLICY, FarmOf, Subject, fake_subject, real_subject, user
from support.farm import Farm, open_farm
from support.farm_beside_model import World
from support.pages import Browser, SignIn, browser_of

Make = Callable[[Sequence[FakeUser], FakePolicy, int | None], AbstractAsyncContextManager[Subject]]


@pytest.fixture(autouse=True)
def _cheap_hashes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password's hash would take 28 ms of processor time; it does where the test is marked `costly`."""
    if request.node.get_closest_marker("costly") is None:
        monkeypatch.setattr(passwords, "MEMORY_KIB", 8)


@pytest.fixture(params=["real", "fake"])
def make(request: pytest.FixtureRequest) -> Make:
    if request.param == "fake":
        return fake_subject
    return partial(real_subject, request.getfixturevalue("database_url"))


@pytest.fixture
async def farm_of(make: Make) -> AsyncIterator[FarmOf]:
    """Opens the farm of a test: of these users, else of a single one."""
    async with AsyncExitStack() as stack:

        async def open_farm(*users: FakeUser, max_leases: int | None = None, **policy: Any) -> Subject:
            chosen = users or (user(1),)
            return await stack.enter_async_context(make(chosen, replace(POLICY, **policy), max_leases))

        yield open_farm


@pytest.fixture
def world(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    ids = random.Random()
    for module in (users, importing, grants, pool_grant_queries):
        monkeypatch.setattr(module, "uuid4", lambda: UUID(int=ids.getrandbits(128), version=4))
    with asyncio.Runner(loop_factory=uvicorn.Config("", log_config=None).get_loop_factory()) as runner:
        stack = AsyncExitStack()
        yield World(runner, runner.run(stack.enter_async_context(open_farm(database_url))), ids)
        runner.run(stack.aclose())


@pytest.fixture
def admin(api: httpx.AsyncClient) -> Browser:
    """With the bootstrap token."""
    return Browser(api)


@pytest.fixture
async def sign_in(api: httpx.AsyncClient, farm: Farm) -> AsyncIterator[SignIn]:
    async with AsyncExitStack() as stack:

        async def sign_in(name: str, role: Role) -> Browser:
            return Browser(await stack.enter_async_context(browser_of(farm, api, role, name=name)))

        yield sign_in
