"""What every stage needs: its tools, or a plain word that it was skipped, which in CI is a failure."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import pytest

CHECKOUT = Path(__file__).parents[2]
DEPLOY = CHECKOUT / "deploy"
TOOLS = CHECKOUT / ".venv/ops"
# Grafana's server is in none of the sources that `install.sh` draws from.
MAY_BE_SKIPPED_IN_CI = {"grafana-server"}


def skip(name: str, reason: str) -> NoReturn:
    line = f"SKIP {name}: {reason}"
    if os.environ.get("CI") == "true" and name not in MAY_BE_SKIPPED_IN_CI:
        pytest.fail(f"{line}; in CI that is a failure")
    pytest.skip(line)


def tool(name: str) -> str:
    """Its path; skips the test where there is none."""
    path = os.pathsep.join([str(TOOLS / "bin"), str(CHECKOUT / ".venv/bin"), os.environ["PATH"]])
    return shutil.which(name, path=path) or skip(name, "neither in .venv/ops nor on the PATH")


def run(
    *command: str, cwd: Path = CHECKOUT, environment: Mapping[str, str] | None = None, seconds: float = 60
) -> str:
    """Its standard output. Fails the test with that and with its errors when it does not end well."""
    finished = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    said = f"{' '.join(command)} ended with {finished.returncode}:\n{finished.stdout}{finished.stderr}"
    assert finished.returncode == 0, said
    return finished.stdout
