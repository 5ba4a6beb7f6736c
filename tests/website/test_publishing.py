"""website/publish.sh, against a repository of its own."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from website.building import CHECKOUT


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=test", "-c", "user.email=test@shop.test")
    return subprocess.run(
        ("git", *identity, "-C", str(folder), *arguments), capture_output=True, text=True, check=True
    ).stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clone whose origin has the branch main and no other."""
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    subprocess.run(("git", "init", "--quiet", "--bare", "--initial-branch", "main", str(origin)), check=True)
    shutil.copytree(CHECKOUT / "website", clone / "website", ignore=shutil.ignore_patterns("__pycache__"))
    (clone / ".gitignore").write_text(".site/\n__pycache__/\n")
    git(tmp_path, "init", "--quiet", "--initial-branch", "main", str(clone))
    git(clone, "remote", "add", "origin", origin.as_uri())
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "--message", "A release")
    git(clone, "push", "--quiet", "origin", "main")
    return clone


def publish(checkout: Path, version: str) -> str:
    (checkout / ".site/html").mkdir(parents=True, exist_ok=True)
    (checkout / ".site/html/index.html").write_text(version)
    command = ("sh", str(checkout / "website/publish.sh"), version)
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def published(checkout: Path, path: str) -> str:
    return git(checkout.parent / "origin", "show", f"gh-pages:{path}")


def test_the_first_release_makes_the_branch_with_nothing_else_on_it(checkout: Path) -> None:
    publish(checkout, "1.0.0")
    files = git(checkout.parent / "origin", "ls-tree", "-r", "--name-only", "gh-pages").split()
    assert files == [".nojekyll", "1.0.0/index.html", "index.html", "latest/index.html", "versions.json"]
    assert git(checkout, "status", "--porcelain") == ""


def test_the_next_release_keeps_the_pages_of_the_first(checkout: Path) -> None:
    publish(checkout, "1.0.0")
    publish(checkout, "1.1.0")
    assert published(checkout, "1.0.0/index.html") == "1.0.0"
    assert published(checkout, "latest/index.html") == "1.1.0"
    assert [entry["version"] for entry in json.loads(published(checkout, "versions.json"))] == [
        "1.1.0",
        "1.0.0",
    ]
    assert git(checkout.parent / "origin", "rev-list", "--count", "gh-pages").strip() == "2"


def test_a_job_that_is_repeated_changes_nothing(checkout: Path) -> None:
    publish(checkout, "1.0.0")
    assert publish(checkout, "1.0.0") == "1.0.0 is there already.\n"


def test_a_push_that_is_refused_fails(checkout: Path) -> None:
    (checkout.parent / "origin/hooks/update").write_text("#!/bin/sh\nexit 1\n")
    (checkout.parent / "origin/hooks/update").chmod(0o755)
    with pytest.raises(subprocess.CalledProcessError):
        publish(checkout, "1.0.0")
