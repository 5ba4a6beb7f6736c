"""The Dockerfile, without an engine."""

import re
from pathlib import Path

import pytest

from stages import CHECKOUT, run, tool

DOCKERFILE = CHECKOUT / "Dockerfile"


def test_the_linter_finds_nothing() -> None:
    run(tool("hadolint"), str(DOCKERFILE))


def test_the_linter_would_find_something(tmp_path: Path) -> None:
    worse = tmp_path / "Dockerfile"
    worse.write_text(DOCKERFILE.read_text().replace("# hadolint ignore=DL3008\n", ""))
    with pytest.raises(AssertionError, match="DL3008"):
        run(tool("hadolint"), "--no-color", str(worse))


def test_whatever_pip_installs_is_pinned_by_hashes() -> None:
    lines = DOCKERFILE.read_text().replace("\\\n", " ")
    installs = [command for command in re.split(r"&&|\n", lines) if re.search(r"\bpip\b.* install ", command)]
    assert len(installs) == 3
    assert all("--require-hashes" in install or "--no-index" in install for install in installs)
