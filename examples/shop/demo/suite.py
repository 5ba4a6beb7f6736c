"""The suite of the shop, on many workers, and what became of it."""

import re
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from demo.processes import SHOP, DemoError, run
from demo.stage import Stage

TESTS = SHOP / "tests_pytest"


@dataclass(frozen=True)
class Outcome:
    passed: int
    failed: int
    seconds: float
    thrown_out: int
    """Sessions of the shop that were in use when somebody else signed in."""
    reasons: Counter[str]


def run_suite(stage: Stage, folder: Path, *, workers: int, variables: Mapping[str, str]) -> Outcome:
    """Raises DemoError when the suite did not get to its end."""
    before, started_at = _thrown_out(stage), time.monotonic()
    code, output = run(
        *(sys.executable, "-m", "pytest", str(TESTS), "-c", str(TESTS / "pytest.ini"), "-n", str(workers)),
        *("-rA", "--tb=no", "--color=no", "--basetemp", str(folder / "pytest")),
        output=folder / "suite.log",
        variables={"SHOP_URL": stage.shop_url, "COLUMNS": "1000", **variables},
    )
    if code not in {0, 1}:
        raise DemoError(output)
    failures = dict(re.findall(r"^(?:FAILED|ERROR) (\S+) - (?:\w+: )?(.+)", output, re.MULTILINE))
    passed = set(re.findall(r"^PASSED (\S+)", output, re.MULTILINE)) - failures.keys()
    return Outcome(
        passed=len(passed),
        failed=len(failures),
        seconds=time.monotonic() - started_at,
        thrown_out=_thrown_out(stage) - before,
        reasons=Counter(failures.values()),
    )


def _thrown_out(stage: Stage) -> int:
    return int(httpx.get(f"{stage.shop_url}/stats", trust_env=False).raise_for_status().json()["thrown_out"])
