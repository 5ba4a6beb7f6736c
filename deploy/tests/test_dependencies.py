"""Every dependency is looked up in the advisories and gets its updates. Neither needs the network here."""

import json
import os
import re
import subprocess
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages import CHECKOUT, run

RENOVATE = json.loads((CHECKOUT / ".github/renovate.json").read_text())
WORKFLOW = yaml.safe_load((CHECKOUT / ".github/workflows/dependencies.yml").read_text())
# Files as each manager of Renovate looks for them.
MANAGED = {
    "docker-compose": r"(^|/)(docker-)?compose[^/]*\.ya?ml$",
    "dockerfile": r"(^|/)Dockerfile$",
    "github-actions": r"^\.github/workflows/[^/]+\.ya?ml$",
    "npm": r"(^|/)package\.json$",
}


def tracked(pattern: str) -> list[str]:
    return [path for path in run("git", "ls-files").splitlines() if re.search(pattern, path)]


def audit(folder: Path, finds: str) -> tuple[subprocess.CompletedProcess[str], str]:
    """With stand-ins for what asks the registries: they tell what they are asked, and find one advisory."""
    for program in ("pip-audit", "npm"):
        (folder / program).write_text(
            f'#!/bin/sh\necho "{program} $*" >>{folder}/asked\ncase "$*" in *{finds}*) exit 1 ;; esac\n'
        )
        (folder / program).chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    command = ["sh", str(CHECKOUT / "requirements/audit.sh")]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return finished, (folder / "asked").read_text()


def test_the_audit_looks_at_every_lock(tmp_path: Path) -> None:
    finished, asked = audit(tmp_path, finds="nothing-of-that-name")
    assert finished.returncode == 0, finished.stderr
    locks = tracked(r"^requirements/[^/]+\.txt$")
    folders = [str(Path(path).parent) for path in tracked(r"(^|/)package-lock\.json$")]
    assert (len(locks), len(folders)) >= (8, 3)
    assert sorted(re.findall(r"^pip-audit .* -r (\S+)$", asked, re.MULTILINE)) == sorted(locks)
    assert sorted(re.findall(r"^npm audit --prefix (\S+) ", asked, re.MULTILINE)) == sorted(folders)


@pytest.mark.parametrize("finds", ["requirements/build.txt", "clients/playwright"])
def test_an_advisory_about_any_of_them_fails_the_audit(finds: str, tmp_path: Path) -> None:
    finished, _ = audit(tmp_path, finds)
    assert finished.returncode == 1


def test_the_audit_runs_each_week_and_for_each_change_of_a_lock() -> None:
    assert WORKFLOW["on"]["schedule"]
    assert set(WORKFLOW["on"]["pull_request"]["paths"]) == {"requirements/**", "**/package-lock.json"}
    assert "make audit" in [step.get("run") for step in WORKFLOW["jobs"]["audit"]["steps"]]


def test_what_runs_new_dependencies_may_not_write() -> None:
    jobs: dict[str, Any] = WORKFLOW["jobs"]
    writing = {name for name, job in jobs.items() if "write" in job.get("permissions", {}).values()}
    assert writing == {"propose"}
    assert jobs["propose"]["needs"] == "resolve"
    assert not re.search(r"\b(make|pip|python|npm)\b", jobs["propose"]["steps"][-1]["run"])


@pytest.mark.parametrize("manager", MANAGED)
def test_the_bot_updates_all_that_names_a_version(manager: str) -> None:
    files = [path for path in tracked(MANAGED[manager]) if not path.startswith("deploy/tests/standins/")]
    assert files
    assert manager in RENOVATE["enabledManagers"]
    ignored = [path for path in files if any(fnmatch(path, each) for each in RENOVATE["ignorePaths"])]
    assert ignored == []


def test_the_bot_pins_images_and_actions_by_digest() -> None:
    assert {"docker:pinDigests", "helpers:pinGitHubActionDigests"} <= set(RENOVATE["extends"])
