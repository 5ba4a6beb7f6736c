"""schemathesis tests the server by its OpenAPI document: no 5xx, and no undocumented status."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.farm import KEYS, TOKEN
from support.postgres import two_roles
from support.processes import CHECKOUT, clean_environment, running_botfarm

# The last one is in support/schemathesis_hooks.py, and has the others done to the answers that the runner is given.
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "second_caller_is_answered_as_documented"
)
ADMIN = {"role": "admin", "projects": ["*"], "envs": ["*"]}
RUNNER_OF_ONE_PROJECT = {"role": "runner", "projects": ["shop"], "envs": ["stage"], "max_leases": 5}
# Of each operation, besides those that cover its document.
EXAMPLES = os.environ.get("BOTFARM_HYPOTHESIS_EXAMPLES", "5")
# Each wrong password delays the next one, so `login` gets only the requests that cover its document.
CONFIGURATION = """
[[operations]]
include-operation-id = "login"
phases.fuzzing.enabled = false
"""


@pytest.mark.timeout(300)  # it is the longest test, and the machine may be busy
def test_the_server_answers_as_its_openapi_document_says(database_url: str, tmp_path: Path) -> None:
    environment = {
        **two_roles(database_url),
        "BOTFARM_ENCRYPTION_KEYS": KEYS,
        "BOTFARM_BOOTSTRAP_TOKEN": TOKEN,
        "BOTFARM_PORT": "0",
        "BOTFARM_MAX_WAIT": "0",
    }
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    with running_botfarm("serve", environment=environment) as api:
        url = api.url()
        admin, runner = fill(url)
        command = [Path(sys.executable).with_name("schemathesis"), "run", f"{url}/openapi.json", "--no-color"]
        options = [
            *("--header", f"Authorization: Bearer {admin}", "--checks", CHECKS),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", EXAMPLES),
            *("--generation-database", "none", "--warnings", "off", "--continue-on-failure"),
        ]
        hooks = {
            "PYTHONPATH": str(CHECKOUT / "tests"),
            "SCHEMATHESIS_HOOKS": "support.schemathesis_hooks",
            "SECOND_CALLER": runner,
            # What Hypothesis knows of Unicode takes seconds to compute; pytest's own process keeps it here.
            "HYPOTHESIS_STORAGE_DIRECTORY": str(CHECKOUT / ".hypothesis"),
        }
        run = subprocess.run(
            [*command, *options],
            cwd=tmp_path,
            env=clean_environment(hooks),
            capture_output=True,
            text=True,
            check=False,
        )
    assert run.returncode == 0, run.stdout[-10_000:]
    assert re.search(r"\b(\d+) selected / \1 total", run.stdout)


def fill(url: str) -> tuple[str, str]:
    """Adds rows, so that valid requests get further than invalid ones. Gives the tokens of the two callers."""
    with httpx.Client(base_url=f"{url}/api/v1", headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        project = client.post("/projects", json={"name": "shop"}).json()
        for env in ("prod", "preprod", "stage"):
            for login in ("of-the-admin@shop.test", "of-the-runner@shop.test"):
                body: dict[str, Any] = {
                    "login": login,
                    "password": "x",
                    "project_id": project["id"],
                    "env": env,
                    "domain": "regular",
                }
                client.post("/users", json=body).raise_for_status()
        tokens = []
        for caller in (ADMIN, RUNNER_OF_ONE_PROJECT):
            made = client.post("/tokens", json={"name": "tried", **caller}).raise_for_status()
            tokens.append(str(made.json()["token"]))
    return tokens[0], tokens[1]
