"""`make demo` as somebody runs it who has just cloned the repository: see `make test-demo`."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.postgres import temporary_folder
from support.processes import heed_signals, running


@pytest.fixture
def folder() -> Iterator[Path]:
    """All that the demo leaves would be here."""
    heed_signals()
    with temporary_folder() as folder:
        yield folder


def processes_of(folder: Path) -> list[int]:
    """Those that were told of the folder, in their command or in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:  # it has just ended
            continue
        if str(folder).encode() in told:
            found.append(int(process.name))
    return found


def assert_nothing_is_left(folder: Path) -> None:
    deadline = time.monotonic() + 20
    while left := processes_of(folder):
        assert time.monotonic() < deadline, f"processes {left} live on"
        time.sleep(0.05)
    assert list(folder.iterdir()) == []


@pytest.mark.timeout(400)
def test_it_shows_that_accounts_of_ones_own_are_enough_and_a_shared_one_is_not(folder: Path) -> None:
    with running("make", "demo", environment={"TMPDIR": str(folder)}) as demo:
        code = demo.wait(seconds=300)
    assert code == 0, demo.output
    assert demo.output.count("200 passed") == 1
    assert "leases      200 of 12 accounts, 12 at once" in demo.output
    waiting = re.search(r"(\d+) in line at most", demo.output)
    assert waiting
    assert 1 <= int(waiting[1]) <= 16
    thrown_out = [int(number) for number in re.findall(r"thrown out +(\d+)", demo.output)]
    failed = re.search(r"(\d+) failed", demo.output)
    assert failed
    assert thrown_out[0] == 0 < min(thrown_out[1], int(failed[1]))
    assert re.search(r"\d+ x You have been signed out: somebody else signed in", demo.output)
    assert_the_kept_project_lasts_and_the_other_one_does_not(demo.output)
    assert_nothing_is_left(folder)


def assert_the_kept_project_lasts_and_the_other_one_does_not(output: str) -> None:
    unkept, kept = (
        {end: int(count) for count, end in re.findall(r"(\d+) ([^,\n]+)", runs)}
        for runs in re.findall(r"^  (?:no|a) keeper +(.+)$", output, re.MULTILINE)
    )
    assert unkept["got no account"] >= 2, "ten runs leave a full cart in one of eight accounts"
    assert sum(unkept.values()) == sum(kept.values()) == 40
    assert kept["passed"] >= 36
    assert kept.keys() <= {"passed", "could not sign in"}
    assert "8 of 8 in service" in output
    healed = re.search(r"healed +(\d+) times", output)
    assert healed
    assert int(healed[1]) >= 10


def test_ctrl_c_ends_all_of_it(folder: Path) -> None:
    with running("make", "demo", environment={"TMPDIR": str(folder)}) as demo:
        demo.wait_for("Each test leases an account")
        deadline = time.monotonic() + 60
        while len(processes_of(folder)) < 16:  # the workers are there, too
            assert time.monotonic() < deadline, demo.output
            time.sleep(0.05)
        demo.interrupt()
        demo.wait(seconds=60)
        assert "Traceback" not in demo.output
        assert "All tests share" not in demo.output
    assert_nothing_is_left(folder)
