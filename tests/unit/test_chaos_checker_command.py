"""The command that checks again what a run has left."""

import os
import subprocess
import sys
from pathlib import Path

from chaos.checker.left import write_kept
from chaos.history import Recorder
from support.chaos_story import PASSWORD, Story
from support.processes import CHECKOUT


def check_again(story: Story, folder: Path, *, is_kept: bool = True) -> subprocess.CompletedProcess[str]:
    seen, kept = story.finish()
    with (folder / "history.jsonl").open("w") as file:
        recorder = Recorder(file)
        for record in (*seen.calls, *seen.faults):
            recorder.add(record)
    if is_kept:
        write_kept(kept, folder)
    return subprocess.run(
        [sys.executable, "-m", "chaos.checker", str(folder / "history.jsonl")],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT / "tests")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_clean_history(tmp_path: Path) -> None:
    story = Story()
    story.acquire("runner-1", 1, at=1)
    story.fault("pause", 1, 2)
    run = check_again(story, tmp_path)
    assert (run.returncode, run.stdout) == (0, "1 calls, 1 faults, 0 broken promises\n"), run.stderr


def test_broken_promises_are_printed_without_passwords(tmp_path: Path) -> None:
    story = Story()
    story.end(story.acquire("runner-1", 1, at=1), at=1.5)
    story.acquire("runner-2", 1, at=2)
    log = tmp_path / "standby-1.log"
    log.write_text(PASSWORD)
    run = check_again(story, tmp_path)
    assert run.returncode == 1
    assert "nobody twice: user " in run.stdout
    assert f"passwords for the holder only: a password is in the log {log}, line 1" in run.stdout
    assert run.stdout.endswith("2 calls, 0 faults, 2 broken promises\n")
    assert PASSWORD not in run.stdout


def test_what_the_database_lost_is_found_again(tmp_path: Path) -> None:
    story = Story()
    lease = story.acquire("runner-1", 1, at=1)
    del story.kept.leases[lease.id]
    run = check_again(story, tmp_path)
    assert run.returncode == 1
    assert "nothing lost: " in run.stdout


def test_without_what_the_database_kept_the_answers_alone_are_checked(tmp_path: Path) -> None:
    story = Story()
    lease = story.acquire("runner-1", 1, at=1)
    del story.kept.leases[lease.id]
    run = check_again(story, tmp_path, is_kept=False)
    assert run.returncode == 0
    assert "only the rules of answers and of logs are applied" in run.stdout
