"""Limits of what a client may send and hold before it has shown a token."""

import select
import socket
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from prometheus_client import REGISTRY

from botfarm.process.connection_limits import ConnectionLimits
from support.http import assert_problem
from support.raw_http import GET, RawServer, ask, is_closed, raw_server

KIB = 1_024
LIMIT = 64 * KIB
SOON = ConnectionLimits(head_seconds=0.3)
CHUNKED = b"POST /body HTTP/1.1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED_UNREAD = CHUNKED.replace(b"/body", b"/")
FIELD = b"X-Field: " + b"v" * (KIB - 11) + b"\r\n"
OK = b"HTTP/1.1 200 "
WITH_LENGTH = b"POST %s HTTP/1.1\r\nContent-Length: %d\r\n\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[RawServer]:
    with raw_server(ConnectionLimits()) as server:
        yield server


def closings(reason: str) -> float:
    return REGISTRY.get_sample_value("botfarm_connections_closed_total", {"reason": reason}) or 0


def head_of(size: int, line: bytes = b"GET / HTTP/1.1") -> bytes:
    """A head of this many bytes."""
    start = line + b"\r\nConnection: close\r\nX-Long: "
    return start + b"a" * (size - len(start) - 4) + b"\r\n\r\n"


@pytest.mark.parametrize("pieces", [1, 10])
@pytest.mark.parametrize(("size", "status"), [(LIMIT, 200), (LIMIT + 1, 431)])
def test_a_head_may_have_64_kib_and_not_one_byte_more(
    server: RawServer, size: int, status: int, pieces: int
) -> None:
    request = head_of(size, b"POST /body HTTP/1.1\r\nContent-Length: 3") + b"abc"
    step = len(request) // pieces + 1
    answer = server.answer_to(*(request[at : at + step] for at in range(0, len(request), step)))
    assert answer.status_code == status


def test_the_refusal_is_a_problem_as_all_errors_are(server: RawServer) -> None:
    before = closings("too_large")
    answer = server.answer_to(head_of(LIMIT + 1))
    assert "aaa" not in assert_problem(answer, 431, "too-large")["detail"]
    assert answer.headers["connection"] == "close"
    assert answer.headers["cache-control"] == "no-store"
    assert closings("too_large") == before + 1


# How it begins, its parts, and how many KiB of it are refused: trailers count from the next segment.
ENDLESS = {
    "line": (b"GET /", b"a" * KIB, 64),
    "value": (b"GET / HTTP/1.1\r\nX-Long: ", b"v" * KIB, 64),
    "fields": (b"GET / HTTP/1.1\r\n", FIELD, 64),
    "blank lines": (b"\r\n", b"\r\n" * 512, 64),
    "value of a trailer": (CHUNKED + b"0\r\nX-Long: ", b"v" * KIB, 128),
    "trailers": (CHUNKED + b"0\r\n", FIELD, 128),
    "extension of a chunk": (CHUNKED + b"3;", b"e" * KIB, 128),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_an_endless_head_is_refused_while_it_arrives_and_not_stored(server: RawServer, kind: str) -> None:
    start, part, refused = ENDLESS[kind]
    with server.connect() as connection:  # enough for the answer
        assert ask(connection, start + part * refused) == 431
    tracemalloc.start()
    try:
        assert server.answer_to(start, *[part] * 20_000).status_code == 431
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * KIB * KIB
    assert server.get().status_code == 200


@pytest.mark.parametrize(("fields", "status"), [(128, 200), (129, 431), (10_000, 431)])
def test_a_head_has_128_fields_at_most_because_small_ones_are_large_in_memory(
    server: RawServer, fields: int, status: int
) -> None:
    head = b"GET / HTTP/1.1\r\nConnection: close\r\n" + b"a:\r\n" * (fields - 1) + b"\r\n"
    assert server.answer_to(head).status_code == status


def test_so_has_a_head_that_does_not_end(server: RawServer) -> None:
    assert server.answer_to(b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 130).status_code == 431


def test_trailers_are_not_taken_for_headers(server: RawServer) -> None:
    answer = server.answer_to(CHUNKED_UNREAD + b"0\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n")
    assert answer.content == b"connection transfer-encoding"


def test_trailers_without_an_end_close_a_connection_that_has_had_its_answer(server: RawServer) -> None:
    with server.connect() as connection:
        assert ask(connection, CHUNKED_UNREAD.replace(b"Connection: close\r\n", b"")) == 200
        connection.sendall(b"0\r\nX-Long: " + b"v" * LIMIT)
        assert is_closed(connection)


def test_a_large_head_behind_a_request_under_way_closes_the_connection(server: RawServer) -> None:
    with server.connect() as connection:
        connection.sendall(GET % b"/park")
        assert server.parked.acquire(timeout=10)
        connection.sendall(head_of(LIMIT * 3))
        assert is_closed(connection)


@pytest.mark.parametrize(("ahead", "answers"), [(16, 16), (17, 0), (5_000, 0)])
def test_16_requests_may_be_sent_ahead_of_their_answers(server: RawServer, ahead: int, answers: int) -> None:
    with server.connect() as connection:
        connection.sendall(
            (GET % b"/") * (ahead - 1) + GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") % b"/"
        )
        received = b""
        while received.count(OK) != answers and (part := connection.recv(LIMIT)):
            received += part
        assert received.count(OK) == answers


def test_bodies_are_not_limited_here(server: RawServer) -> None:
    with server.connect() as connection:
        assert ask(connection, WITH_LENGTH % (b"/body", KIB * KIB) + b"a" * KIB * KIB) == 200
    assert server.answer_to(CHUNKED, b"1\r\na\r\n" * LIMIT, b"0\r\n\r\n").status_code == 200


UNFINISHED = {"half a head": b"GET / HT", "a blank line": b"\r\n"}


@pytest.mark.parametrize("sent", [b"", *UNFINISHED.values()], ids=["nothing", *UNFINISHED])
def test_a_new_connection_that_sends_no_whole_head_is_closed(sent: bytes) -> None:
    before = closings("too_slow")
    with raw_server(SOON) as server, server.connect() as connection:
        connection.sendall(sent)
        assert is_closed(connection)
    assert closings("too_slow") == before + 1


@pytest.mark.parametrize("sent", UNFINISHED.values(), ids=UNFINISHED)
def test_so_is_one_after_an_earlier_request(sent: bytes) -> None:
    with raw_server(SOON) as server, server.connect() as connection:
        assert ask(connection) == 200
        connection.sendall(sent)
        assert is_closed(connection)


def test_a_byte_now_and_then_gives_a_head_no_more_time() -> None:
    with raw_server(SOON) as server, server.connect() as connection:
        connection.sendall(b"GET /")
        while not select.select([connection], [], [], 0.05)[0]:
            connection.sendall(b"a")
        assert is_closed(connection)


def test_the_rest_of_a_body_that_was_answered_early_has_the_same_time() -> None:
    with raw_server(SOON) as server, server.connect() as connection:
        assert ask(connection, WITH_LENGTH % (b"/", 10)) == 200
        connection.sendall(b"12345")
        assert is_closed(connection)


def until_a_silent_connection_is_closed(server: RawServer) -> None:
    with server.connect() as silent:
        assert is_closed(silent)


def test_a_request_that_waits_for_its_answer_has_no_deadline_here() -> None:
    with raw_server(SOON) as server, server.connect() as waiting:
        waiting.sendall(GET % b"/park")
        assert server.parked.acquire(timeout=10)
        until_a_silent_connection_is_closed(server)
        server.get(b"/free")
        assert waiting.recv(KIB).startswith(OK)


def test_a_body_that_is_read_has_no_deadline_here() -> None:
    with raw_server(SOON) as server, server.connect() as uploading:
        uploading.sendall(WITH_LENGTH % (b"/body", 10) + b"12345")
        until_a_silent_connection_is_closed(server)
        assert ask(uploading, b"67890") == 200


@pytest.mark.parametrize("earlier", [(GET % b"/",), (WITH_LENGTH % (b"/", 10), b"1234567890")])
def test_a_connection_between_two_requests_has_no_deadline_here(earlier: tuple[bytes, ...]) -> None:
    with raw_server(SOON) as server, server.connect() as kept:
        assert ask(kept, earlier[0]) == 200
        kept.sendall(b"".join(earlier[1:]))
        until_a_silent_connection_is_closed(server)
        assert ask(kept) == 200


@pytest.mark.parametrize(
    ("sent", "rest"),
    [
        (GET % b"/park" + b"GET /two", b" HTTP/1.1\r\n\r\n"),
        (GET % b"/park" + b"GET / HTTP/1.1\r\nX-Fi", b"eld: two\r\n\r\n"),
        (WITH_LENGTH % (b"/park", 3) + b"abcGE", b"T /two HTTP/1.1\r\nX-Field: two\r\n\r\n"),
    ],
    ids=["in the path", "in a field", "in the method, behind a body"],
)
@pytest.mark.parametrize("split", [False, True])
def test_a_head_that_began_before_the_last_answer_may_go_on_after_it(
    sent: bytes, rest: bytes, *, split: bool
) -> None:
    at = sent.rindex(b"GE") if split else 0
    with raw_server(ConnectionLimits()) as server, server.connect() as connection:
        connection.sendall(sent[:at])
        if split:
            assert server.parked.acquire(timeout=10)
        connection.sendall(sent[at:])
        if not split:
            assert server.parked.acquire(timeout=10)
        server.get(b"/free")
        assert connection.recv(KIB).startswith(OK)
        assert ask(connection, rest) == 200


def test_a_head_that_began_behind_a_body_has_the_same_time() -> None:
    with raw_server(SOON) as server, server.connect() as connection:
        assert ask(connection, WITH_LENGTH % (b"/body", 3) + b"abcGE") == 200
        assert is_closed(connection)


def test_one_connection_too_many_closes_the_one_that_has_been_idle_for_longest() -> None:
    before = closings("too_many")
    with raw_server(ConnectionLimits(connections=3)) as server, ExitStack() as open_ones:
        silent, kept, waiting = [open_ones.enter_context(server.connect()) for _ in range(3)]
        waiting.sendall(GET % b"/park")
        assert server.parked.acquire(timeout=10)
        assert ask(kept) == 200
        assert server.get().status_code == 200
        assert is_closed(silent)
        fourth = open_ones.enter_context(server.connect())
        assert ask(fourth) == 200
        assert ask(open_ones.enter_context(server.connect())) == 200
        assert is_closed(kept)
        assert ask(fourth, GET % b"/free") == 200
        assert waiting.recv(KIB).startswith(OK)
    assert closings("too_many") == before + 2


def test_slow_readers_do_not_keep_others_out() -> None:
    before = closings("too_many")
    with raw_server(ConnectionLimits(connections=2)) as server, ExitStack() as open_ones:
        slow = [open_ones.enter_context(server.connect()) for _ in range(2)]
        for each in slow:
            each.sendall(GET % b"/large")
            assert each.recv(KIB).startswith(OK)
        assert ask(open_ones.enter_context(server.connect())) == 200
        assert server.answered.acquire(timeout=10), "the first answer was given up"
    assert closings("too_many") == before + 1


def test_a_reader_that_goes_on_is_answering_again() -> None:
    with raw_server(ConnectionLimits(connections=2)) as server, ExitStack() as open_ones:
        reader, idle = [open_ones.enter_context(server.connect()) for _ in range(2)]
        reader.sendall(GET % b"/large" + GET % b"/park")
        received = b""
        while not server.parked.acquire(blocking=False):
            received += reader.recv(KIB * KIB)
        assert ask(idle) == 200
        assert ask(open_ones.enter_context(server.connect())) == 200
        assert is_closed(idle)
        server.get(b"/free")
        while received.count(OK) < 2:
            part = reader.recv(KIB * KIB)
            assert part
            received += part


def test_where_all_are_answering_the_new_connection_is_closed() -> None:
    with raw_server(ConnectionLimits(connections=2)) as server, ExitStack() as open_ones:
        waiting = [open_ones.enter_context(server.connect()) for _ in range(2)]
        for each in waiting:
            each.sendall(GET % b"/park")
            assert server.parked.acquire(timeout=10)
        with server.connect() as new:
            assert is_closed(new)
        waiting.pop().shutdown(socket.SHUT_RDWR)
        while True:
            with server.connect() as new:
                new.sendall(GET % b"/free")
                if not is_closed(new):
                    break
        assert waiting.pop().recv(KIB).startswith(OK)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system has no such timeout")
def test_an_answer_that_the_peer_does_not_read_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botfarm.process.http_server.UNREAD_PATIENCE", 1)
    with raw_server(ConnectionLimits()) as server, server.connect() as connection:
        connection.sendall(GET % b"/large")
        assert server.answered.acquire(timeout=20)


def test_a_reader_that_takes_a_little_now_and_then_is_closed_too() -> None:
    before = closings("too_slow")
    with raw_server(ConnectionLimits(unread_seconds=0.5)) as server, server.connect() as connection:
        connection.sendall(GET % b"/large")
        while not server.answered.acquire(timeout=0.05):
            assert connection.recv(64 * KIB)
    assert closings("too_slow") == before + 1


def test_an_idle_connection_frees_its_last_request(server: RawServer) -> None:
    with ExitStack() as open_ones:
        connections = [open_ones.enter_context(server.connect()) for _ in range(50)]
        assert [ask(each) for each in connections] == [200] * 50
        tracemalloc.start()
        try:
            for each in connections:
                assert ask(each, b"POST /%s HTTP/1.1\r\n\r\n" % (b"a" * 60 * KIB)) == 200
            kept, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert kept < 50 * 20 * KIB
