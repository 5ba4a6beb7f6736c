"""The client's own connections: when they are closed, and when requests are repeated."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import pytest
from httpcore import (
    AsyncHTTP11Connection,
    ConnectError,
    HTTP11Connection,
    Request,
    Response,
    SyncBackend,
)

from botfarm_client.connection.api_calls import Call
from botfarm_client.connection.async_connection import AsyncConnection
from botfarm_client.connection.connection import Connection
from botfarm_client.connection.idle_connections import LONGEST_IDLE, MOST_IDLE, IdleConnections
from botfarm_client.connection.transport import FarmTransport
from botfarm_client.errors import LostAnswerError
from botfarm_client.shared import clock
from support.live_farm import until
from support.processes import clean_environment
from support.stub_server import Answer, Seen, StubServer, stub_server

LOOK, HELD = Call(method="GET", path="/look"), Call(method="POST", path="/held")


@pytest.fixture
def server() -> Iterator[StubServer]:
    with stub_server() as server:
        yield server


@pytest.fixture
def farm(server: StubServer) -> Iterator[Connection]:
    with Connection(server.url, "token") as farm:
        yield farm


class Held:
    """A server that answers HELD when the test tells it to."""

    def __init__(self, server: StubServer) -> None:
        self.arrived, self.may_be_answered = threading.Event(), threading.Event()
        server.answer = self._answer

    def _answer(self, seen: Seen) -> Answer:
        if seen.target.endswith(HELD.path):
            self.arrived.set()
            assert self.may_be_answered.wait(20)
        return 200, {"path": seen.target}


def test_no_thread_closes_a_connection_that_was_given_to_the_request_of_another(
    server: StubServer, farm: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle connection is taken and expires. Another request comes, then the first is sent and answered."""
    held, given, may_begin = Held(server), threading.Event(), threading.Event()
    begin, close = HTTP11Connection.handle_request, HTTP11Connection.close

    def slow_to_begin(connection: HTTP11Connection, request: Request) -> Response:
        if request.url.target.endswith(b"/held"):
            given.set()
            assert may_begin.wait(20)
        return begin(connection, request)

    def slow_to_close(connection: HTTP11Connection) -> None:
        may_begin.set()
        assert held.arrived.wait(20)
        close(connection)

    farm.send(LOOK)
    monkeypatch.setattr(HTTP11Connection, "handle_request", slow_to_begin)
    monkeypatch.setattr(HTTP11Connection, "close", slow_to_close)
    with ThreadPoolExecutor() as threads:
        answer = threads.submit(farm.send, HELD)
        assert given.wait(20)
        monkeypatch.setattr(HTTP11Connection, "has_expired", lambda _: True)
        farm.send(LOOK)
        may_begin.set()
        assert held.arrived.wait(20)
        held.may_be_answered.set()
        assert answer.result() == {"path": "/api/v1/held"}
    assert [seen.number for seen in server.requests] == [1, 1, 2]


async def test_no_task_closes_a_connection_that_was_given_to_the_request_of_another(
    server: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, given, may_begin = Held(server), asyncio.Event(), asyncio.Event()
    begin, close = AsyncHTTP11Connection.handle_async_request, AsyncHTTP11Connection.aclose

    async def slow_to_begin(connection: AsyncHTTP11Connection, request: Request) -> Response:
        if request.url.target.endswith(b"/held"):
            given.set()
            await may_begin.wait()
        return await begin(connection, request)

    async def slow_to_close(connection: AsyncHTTP11Connection) -> None:
        may_begin.set()
        assert await asyncio.to_thread(held.arrived.wait, 20)
        await close(connection)

    farm = AsyncConnection(server.url, "token")
    await farm.send(LOOK)
    monkeypatch.setattr(AsyncHTTP11Connection, "handle_async_request", slow_to_begin)
    monkeypatch.setattr(AsyncHTTP11Connection, "aclose", slow_to_close)
    async with asyncio.timeout(60):
        answer = asyncio.create_task(farm.send(HELD))
        await given.wait()
        monkeypatch.setattr(AsyncHTTP11Connection, "has_expired", lambda _: True)
        await farm.send(LOOK)
        may_begin.set()
        assert await asyncio.to_thread(held.arrived.wait, 20)
        held.may_be_answered.set()
        assert await answer == {"path": "/api/v1/held"}
        await farm.close()
    assert [seen.number for seen in server.requests] == [1, 1, 2]


def test_a_get_on_a_connection_that_the_farm_ends_is_asked_again_on_another(
    server: StubServer, farm: Connection
) -> None:
    server.answer = lambda seen: None if seen.number == 2 else (200, {"number": seen.number})
    assert [farm.send(LOOK) for _ in range(2)] == [{"number": 1}] * 2
    assert [seen.number for seen in server.requests] == [1, 2, 1]


async def test_a_get_of_a_task_is_asked_again_too(server: StubServer) -> None:
    server.answer = lambda seen: None if seen.number == 2 else (200, {"number": seen.number})
    farm = AsyncConnection(server.url, "token")
    assert [await farm.send(LOOK) for _ in range(2)] == [{"number": 1}] * 2
    assert [seen.number for seen in server.requests] == [1, 2, 1]
    await farm.close()


def test_a_request_that_may_have_been_carried_out_is_not_repeated(
    server: StubServer, farm: Connection
) -> None:
    """The caller repeats it: an acquire with its key and the rest of its wait."""
    server.answer = lambda seen: None if seen.number == 2 else (200, {})
    farm.send(LOOK)
    with pytest.raises(LostAnswerError):
        farm.send(HELD)
    assert [seen.number for seen in server.requests] == [1, 2]


def test_a_farm_that_was_asked_is_not_said_to_be_out_of_reach(
    server: StubServer, farm: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise ConnectError("Connection refused")

    server.answer = lambda seen: None if seen.number == 2 else (200, {})
    farm.send(LOOK)
    monkeypatch.setattr(SyncBackend, "connect_tcp", refuse)
    with pytest.raises(LostAnswerError):
        farm.send(LOOK)


def test_a_connection_that_the_farm_has_ended_meanwhile_is_not_used(
    server: StubServer, farm: Connection
) -> None:
    server.hangs_up = True
    farm.send(LOOK)
    until(idle_of(farm)[0].has_expired)
    assert farm.send(HELD) == {}
    assert [seen.number for seen in server.requests] == [1, 1]


def test_an_old_connection_is_not_used_even_if_the_machine_has_slept_meanwhile(
    server: StubServer, farm: Connection
) -> None:
    farm.send(LOOK)
    farm.send(LOOK)
    clock.advance(LONGEST_IDLE + 1)
    farm.send(LOOK)
    assert [seen.number for seen in server.requests] == [1, 2, 1]


class Wire:
    """A connection that is not closed."""

    def has_expired(self) -> bool:
        return False


def test_the_connection_that_was_used_last_is_used_next_and_the_oldest_go_first() -> None:
    idle: IdleConnections[Wire] = IdleConnections()
    wires = [Wire() for _ in range(MOST_IDLE + 1)]
    assert [wire for each in wires for wire in idle.put(each)] == wires[:1]
    assert idle.take() == (wires[-1], [])
    clock.advance(LONGEST_IDLE + 1)
    assert idle.put(wires[-1]) == wires[1:-1]
    assert idle.close() == wires[-1:]
    assert idle.put(wires[0]) == wires[:1]
    assert idle.take() == (None, [])


def test_an_answer_that_comes_after_the_close_leaves_no_connection(
    server: StubServer, farm: Connection
) -> None:
    held = Held(server)
    with ThreadPoolExecutor() as threads:
        answer = threads.submit(farm.send, HELD)
        assert held.arrived.wait(20)
        farm.close()
        held.may_be_answered.set()
        assert answer.result() == {"path": "/api/v1/held"}
    assert not idle_of(farm)
    with pytest.raises(RuntimeError, match="closed"):
        farm.send(LOOK)


REPLACED = """
import asyncio, http.client, inspect, sys

def replace_everything_that_recorders_and_mocks_know():
    import httpcore, httpx

    def refuse(*args, **options):
        raise AssertionError("a request went through what others may replace")

    of_httpx = ("Client", "HTTPTransport", "MockTransport", "ASGITransport", "WSGITransport")
    of_httpcore = ("ConnectionPool", "HTTPConnection", "HTTPProxy", "SOCKSProxy")
    found = [http.client.HTTPConnection]
    for module, names in ((httpx, of_httpx), (httpcore, of_httpcore)):
        found += [getattr(module, f"{kind}{name}", None) for kind in ("", "Async") for name in names]
    for each in filter(None, found):
        for name, function in inspect.getmembers(each, inspect.isfunction):
            setattr(each, name, refuse)

async def ask(url):
    farm = AsyncConnection(url, "token")
    await farm.send(call)
    await farm.close()

order, url = sys.argv[1:]
if order == "replaced, imported":
    replace_everything_that_recorders_and_mocks_know()
from botfarm_client.connection.async_connection import AsyncConnection
from botfarm_client.connection.api_calls import Call
from botfarm_client.connection.connection import Connection
if order == "imported, replaced":
    replace_everything_that_recorders_and_mocks_know()
call = Call(method="GET", path="/look")
with Connection(url, "token") as farm:
    farm.send(call)
asyncio.run(ask(url))
"""


@pytest.mark.parametrize("order", ["replaced, imported", "imported, replaced"])
def test_nothing_that_recorders_and_mocks_replace_is_on_the_way(server: StubServer, order: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", REPLACED, order, server.url],
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment({}),
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert [seen.target for seen in server.requests] == ["/api/v1/look"] * 2


def idle_of(farm: Connection) -> list[HTTP11Connection]:
    assert isinstance(farm._transport, FarmTransport)
    return [connection for connection, _ in farm._transport._idle._waiting]
