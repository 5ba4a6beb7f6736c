"""What writes a server's log: nothing is lost or torn, and the event loop never waits for the reader."""

import asyncio
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pytest
from structlog.typing import EventDict

from botfarm import log_writer
from botfarm.log_writer import LogWriter


def render(event: EventDict) -> str:
    return json.dumps(event)


@dataclass
class Pipe:
    reading: BinaryIO
    writing: BinaryIO

    def read_lines(self, number: int) -> list[str]:
        return [self.reading.readline().decode().rstrip("\n") for _ in range(number)]

    def fill(self) -> int:
        """Fills it, as a reader that has stopped would let it. Gives the number of bytes."""
        file = self.writing.fileno()
        os.set_blocking(file, False)
        filled = 0
        with suppress(BlockingIOError):
            while True:
                filled += os.write(file, b"x" * 1_000)
        os.set_blocking(file, True)
        return filled


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "wb", buffering=0) as writer:
        yield Pipe(reader, writer)


async def test_lines_and_events_are_written_in_order_until_the_last_one(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        writer = LogWriter(file.fileno(), render)
        for number in range(0, 3_000, 2):
            writer.write({"number": number})
            writer.write(f'{{"number": {number + 1}}}\n')
        assert not path.read_text()
        writer.close()
    numbers = [json.loads(line)["number"] for line in path.read_text().splitlines()]
    assert numbers == list(range(3_000))


async def test_an_idle_process_writes_a_line_at_once_and_an_urgent_line_ends_the_pause(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "PAUSE", 3_600)
    writer = LogWriter(pipe.writing.fileno(), render)
    writer.write("first\n")
    assert await asyncio.to_thread(pipe.read_lines, 1) == ["first"]
    writer.write("in the pause\n")
    writer.write("an error\n", urgent=True)
    assert pipe.read_lines(2) == ["in the pause", "an error"]
    writer.write("last\n")
    writer.close()
    assert pipe.read_lines(1) == ["last"]


async def test_after_a_pause_the_event_loop_writes_what_has_been_queued(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "PAUSE", 0.01)
    monkeypatch.setattr(log_writer, "MOST_AT_ONCE", 2)
    writer = LogWriter(pipe.writing.fileno(), render)
    for number in range(7):
        writer.write(f"{number}\n")
    assert await asyncio.to_thread(pipe.read_lines, 7) == [str(number) for number in range(7)]


def test_without_an_event_loop_each_line_is_written_at_once(pipe: Pipe) -> None:
    writer = LogWriter(pipe.writing.fileno(), render)
    writer.write("before the loop\n")
    assert pipe.read_lines(1) == ["before the loop"]

    async def log_and_end() -> None:
        writer.write("in a loop that ends\n")

    asyncio.run(log_and_end())
    writer.write("after the loop\n")
    assert pipe.read_lines(2) == ["in a loop that ends", "after the loop"]


async def test_a_thread_writes_its_lines_behind_those_of_the_event_loop(pipe: Pipe) -> None:
    writer = LogWriter(pipe.writing.fileno(), render)
    writer.write("of the loop\n")
    with ThreadPoolExecutor(1) as threads:
        threads.submit(writer.write, "of a thread\n").result()
        assert await asyncio.to_thread(pipe.read_lines, 2) == ["of the loop", "of a thread"]
        threads.submit(writer.write, "of a thread alone\n").result()
    assert pipe.read_lines(1) == ["of a thread alone"]


LINES = [str(number) * length + "\n" for number, length in enumerate([3_000, 3_000, 9_000, 10, 10])]


async def written_by(file: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What each write of the lines gives to the file."""
    written, write = [], os.write

    def write_seen(to: int, data: bytes) -> int:
        written.append(data.decode())
        return write(to, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write_seen)
        writer = LogWriter(file, render)
        for line in LINES:
            writer.write(line)
        writer.close()
    assert "".join(written) == "".join(LINES)
    return written


async def test_lines_that_a_pipe_takes_at_once_stay_whole_beside_those_of_other_processes(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = await written_by(pipe.writing.fileno(), monkeypatch)
    assert max(map(len, written)) <= 4_096
    assert [data[-1] for data in written] == ["\n", "\n", "2", "2", "\n"]


async def test_a_file_gets_a_batch_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "log").open("wb") as file:
        assert len(await written_by(file.fileno(), monkeypatch)) == 1


async def test_a_reader_that_comes_back_gets_all_lines_without_a_pause(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "PAUSE", 3_600)
    filled = pipe.fill()
    writer = LogWriter(pipe.writing.fileno(), render)
    lines = [str(number) * 300 for number in range(1_000)]
    for line in lines:
        writer.write(f"{line}\n")
    assert await asyncio.to_thread(pipe.reading.read, filled) == b"x" * filled
    assert await asyncio.to_thread(pipe.read_lines, 1_000) == lines


def test_text_that_is_no_unicode_does_not_end_the_log(pipe: Pipe) -> None:
    writer = LogWriter(pipe.writing.fileno(), render)
    writer.write("a lone surrogate \udc80\n")
    assert pipe.read_lines(1) == ["a lone surrogate \\udc80"]


async def test_while_nobody_reads_lines_are_kept_up_to_a_limit_and_the_log_says_how_many_are_missing(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "MOST_CHARACTERS", 3_000)
    filled = pipe.fill()
    writer = LogWriter(pipe.writing.fileno(), render)
    for number in range(100):  # would not return if it waited for the reader
        writer.write({"number": number}, urgent=number % 7 == 0)
    assert pipe.reading.read(filled) == b"x" * filled
    writer.write({"number": 100}, urgent=True)
    writer.close()
    pipe.writing.close()
    events = [json.loads(line) for line in pipe.reading]
    (report,) = [event for event in events if "number" not in event]
    kept = [event["number"] for event in events if "number" in event]
    assert (report["event"], report["level"]) == ("log lines were dropped", "warning")
    assert kept == sorted(kept)
    assert 10 <= len(kept) < 100
    assert len(kept) + report["lines"] == 101


@pytest.fixture
def full_disk() -> Iterator[BinaryIO]:
    with Path("/dev/full").open("wb") as file:
        yield file


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")
async def test_after_a_full_disk_the_log_goes_on_with_the_line_that_failed(
    tmp_path: Path, full_disk: BinaryIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "RETRY", 0.01)
    path = tmp_path / "log"
    with path.open("wb") as free:
        writer = LogWriter(full_disk.fileno(), render)
        writer.write("while it is full\n", urgent=True)
        os.dup2(free.fileno(), full_disk.fileno())
        async with asyncio.timeout(10):
            while not path.read_text():  # without a further line
                await asyncio.sleep(0.01)
        writer.write("afterwards\n")
        writer.close()
    assert path.read_text() == "while it is full\nafterwards\n"


async def test_a_process_ends_although_nobody_reads_its_log(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "CLOSING_PATIENCE", 0.05)
    pipe.fill()
    writer = LogWriter(pipe.writing.fileno(), render)
    writer.write("nobody reads this\n", urgent=True)
    writer.close()


@pytest.mark.parametrize("blocks", [True, False])
async def test_a_line_longer_than_a_pipe_is_written_as_the_reader_reads(pipe: Pipe, *, blocks: bool) -> None:
    filled = pipe.fill()
    os.set_blocking(pipe.writing.fileno(), blocks)
    writer = LogWriter(pipe.writing.fileno(), render)
    line = "longer than the pipe" * 10_000
    writer.write(f"{line}\n", urgent=True)
    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(lambda: (pipe.reading.read(filled), pipe.read_lines(1)))
        writer.close()
        assert reading.result() == (b"x" * filled, [line])


async def test_a_process_ends_although_the_reader_of_its_log_is_gone(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "CLOSING_PATIENCE", 3_600)
    pipe.reading.close()
    writer = LogWriter(pipe.writing.fileno(), render)
    writer.write("nobody can read this\n")
    writer.close()
