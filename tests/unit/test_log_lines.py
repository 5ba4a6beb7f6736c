"""A line has the same keys and values whether it is written at once or in batches."""

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from botfarm.logs import configure_logging, get_logger, lines_in_batches, log_often

NAME = "botfarm.test_log_lines"


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    """The file that standard error goes to."""
    path = tmp_path / "log"
    with path.open("w") as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", file)
        configure_logging("INFO")
        yield path
    configure_logging("INFO", terminal=False)


def say_everything() -> None:
    with structlog.contextvars.bound_contextvars(request_id="job-7"):
        log_often(
            logging.getLogger(NAME),
            "request",
            status=201,
            milliseconds=0.1,
            principal='Zoë "\x85',
            none=None,
            request_id="job-7",
        )
        get_logger(NAME).warning("a warning", seconds=float("inf"), ids=["a"])
        logging.getLogger("a.library").info("with %s", "arguments")
        try:
            int("no number")
        except ValueError:
            get_logger(NAME).exception("a crash")
        logging.getLogger("a.library").error("an error of a library")
        get_logger(NAME).debug("not at this level")


def lines_of(log: Path, start: int = 0) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in log.read_text()[start:].split("\n")[:-1]]
    for line in lines:
        assert line.pop("timestamp")[-1] == "Z"
    return lines


def test_lines_in_batches_are_the_same_as_lines_at_once(log: Path) -> None:
    say_everything()
    at_once = lines_of(log)
    length = len(log.read_text())
    with lines_in_batches():
        say_everything()
    assert lines_of(log, length) == at_once
    assert [line["event"] for line in at_once] == [
        "request",
        "a warning",
        "with arguments",
        "a crash",
        "an error of a library",
    ]
    assert at_once[0] == {
        "status": 201,
        "milliseconds": 0.1,
        "principal": 'Zoë "\x85',
        "none": None,
        "event": "request",
        "request_id": "job-7",
        "level": "info",
        "logger": NAME,
    }
    assert log.read_text().isascii()


def test_after_the_block_lines_are_written_at_once(log: Path) -> None:
    with lines_in_batches():
        get_logger(NAME).info("in the block")
    get_logger(NAME).info("after it")
    assert [line["event"] for line in lines_of(log)] == ["in the block", "after it"]


def test_a_line_that_cannot_be_rendered_does_not_stop_the_caller_or_the_log(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = logging.getLogger("a.library")
    monkeypatch.setattr(library, "propagate", False)  # handlers of pytest raise the error
    monkeypatch.setattr(library, "handlers", logging.getLogger().handlers[:1])
    with lines_in_batches():
        library.error("%d", "no number")
        get_logger(NAME).info("still here")
    assert [line["event"] for line in lines_of(log)] == ["still here"]


def test_a_process_without_standard_error_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    configure_logging("INFO")
    with lines_in_batches():
        say_everything()
    monkeypatch.undo()
    configure_logging("INFO", terminal=False)
