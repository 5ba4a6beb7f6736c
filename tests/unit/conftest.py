"""A fake farm with two users, and what a thread holds of it."""

import logging
import queue
from collections.abc import Iterator
from logging.handlers import QueueHandler

import pytest

from botfarm_client import Botfarm
from botfarm_client.testing import FakeFarm, FakePolicy, FakeUser


@pytest.fixture
def fake() -> FakeFarm:
    users = [
        FakeUser("a@shop.test", "pw-a", labels={"plan": "paid"}, secrets={"pin": 1}, totp="123456"),
        FakeUser("b@shop.test", "pw-b"),
    ]
    return FakeFarm(users, policy=FakePolicy(lock_delay=1, cooldown=0))


@pytest.fixture
def farm(fake: FakeFarm) -> Iterator[Botfarm]:
    with fake.botfarm() as farm:
        yield farm


@pytest.fixture
def logged() -> "Iterator[queue.Queue[logging.LogRecord]]":
    """What other threads have logged can be waited for."""
    records: queue.Queue[logging.LogRecord] = queue.Queue()
    handler, logger = QueueHandler(records), logging.getLogger("botfarm_client")
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)
