"""The thread that writes a server's log: nothing is lost or torn, and nobody who logs waits for the reader."""

import json
import os
from collections.abc import Iterator
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


def test_lines_and_events_are_written_in_order_until_the_last_one(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        writer = LogWriter(file.fileno(), render)
        for number in range(0, 3_000, 2):
            writer.write({"number": number})
            writer.write(f'{{"number": {number + 1}}}\n')
        writer.close()
    numbers = [json.loads(line)["number"] for line in path.read_text().splitlines()]
    assert numbers == list(range(3_000))


def test_an_idle_process_writes_a_line_at_once_and_an_urgent_line_ends_the_pause(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "PAUSE", 3_600)
    writer = LogWriter(pipe.writing.fileno(), render)
    writer.write("first\n")
    assert pipe.read_lines(1) == ["first"]
    writer.write("in the pause\n")
    writer.write("an error\n", urgent=True)
    assert pipe.read_lines(2) == ["in the pause", "an error"]
    writer.write("last\n")
    writer.close()
    assert pipe.read_lines(1) == ["last"]


def test_text_that_is_no_unicode_does_not_end_the_log(pipe: Pipe) -> None:
    writer = LogWriter(pipe.writing.fileno(), render)
    writer.write("a lone surrogate \udc80\n")
    writer.close()
    assert pipe.read_lines(1) == ["a lone surrogate \\udc80"]


def test_while_nobody_reads_lines_are_kept_up_to_a_limit_and_the_log_says_how_many_are_missing(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "MOST_LINES", 10)
    filled = pipe.fill()
    writer = LogWriter(pipe.writing.fileno(), render)
    for number in range(100):  # would not return if it waited for the reader
        writer.write({"number": number})
    assert pipe.reading.read(filled) == b"x" * filled
    writer.close()
    pipe.writing.close()
    events = [json.loads(line) for line in pipe.reading]
    kept = [event["number"] for event in events if "number" in event]
    reports = [event for event in events if "number" not in event]
    assert kept == sorted(kept)
    assert 10 <= len(kept) < 100
    assert {(report["event"], report["level"]) for report in reports} == {
        ("log lines were dropped", "warning")
    }
    assert sum(report["lines"] for report in reports) == 100 - len(kept)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")
def test_after_a_full_disk_the_log_goes_on_with_the_line_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "RETRY", 0.01)
    path = tmp_path / "log"
    with Path("/dev/full").open("wb") as full, path.open("wb") as free:
        writer = LogWriter(full.fileno(), render)
        writer.write("while it is full\n")
        os.dup2(free.fileno(), full.fileno())
        writer.write("afterwards\n")
        writer.close()
    assert path.read_text() == "while it is full\nafterwards\n"


def test_a_process_ends_although_nobody_reads_its_log(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "CLOSING_PATIENCE", 0.05)
    pipe.fill()
    writer = LogWriter(pipe.writing.fileno(), render)
    writer.write("nobody reads this\n")
    writer.close()


def test_a_pipe_that_does_not_block_is_waited_for_as_well(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "CLOSING_PATIENCE", 0.05)
    filled = pipe.fill()
    os.set_blocking(pipe.writing.fileno(), False)
    writer = LogWriter(pipe.writing.fileno(), render)
    last = "last line, which is longer than the room that is left" * 100
    writer.write(f"{last}\n")
    writer.close()
    assert writer._thread.is_alive()
    assert pipe.reading.read(filled) == b"x" * filled
    assert pipe.read_lines(1) == [last]
    writer._thread.join()


def test_a_process_ends_although_the_reader_of_its_log_is_gone(pipe: Pipe) -> None:
    pipe.reading.close()
    writer = LogWriter(pipe.writing.fileno(), render)
    writer.write("nobody can read this\n")
    writer.close()
    assert not writer._thread.is_alive()
