"""The command that checks the history of a run again."""

import os
import subprocess
import sys
from pathlib import Path

from chaos.history import Recorder
from support.chaos_story import PASSWORD, Story
from support.processes import CHECKOUT


def check_again(story: Story, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    history = folder / "history.jsonl"
    with history.open("w") as file:
        recorder = Recorder(file)
        for record in (*story.history.calls, *story.history.faults):
            recorder.add(record)
    return subprocess.run(
        [sys.executable, "-m", "chaos.checker", str(history), *arguments],
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
    log = tmp_path / "api.log"
    log.write_text(PASSWORD)
    run = check_again(story, tmp_path, "--log", str(log))
    assert run.returncode == 1
    assert "nobody twice: user " in run.stdout
    assert f"passwords for the holder only: a password is in the log {log}, line 1" in run.stdout
    assert run.stdout.endswith("2 calls, 0 faults, 2 broken promises\n")
    assert PASSWORD not in run.stdout
