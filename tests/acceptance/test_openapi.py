"""schemathesis tests the server by its OpenAPI document: no 5xx, and no undocumented status."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.farm import KEYS, TOKEN
from support.postgres import two_roles
from support.processes import CHECKOUT, clean_environment, running_botfarm

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
CALLERS: dict[str, dict[str, Any]] = {
    "admin": {"role": "admin", "projects": ["*"], "envs": ["*"]},
    "runner of one project": {"role": "runner", "projects": ["shop"], "envs": ["stage"], "max_leases": 5},
}


# Each wrong password delays the next one, so `login` gets only the requests that cover its document.
PHASES = {"login": "coverage", "others": "examples,coverage,fuzzing"}


@pytest.mark.parametrize(
    ("caller", "operations"), [*((caller, "others") for caller in CALLERS), ("admin", "login")]
)
def test_the_server_answers_as_its_openapi_document_says(
    database_url: str, tmp_path: Path, caller: str, operations: str
) -> None:
    environment = {
        **two_roles(database_url),
        "BOTFARM_ENCRYPTION_KEYS": KEYS,
        "BOTFARM_BOOTSTRAP_TOKEN": TOKEN,
        "BOTFARM_PORT": "0",
        "BOTFARM_MAX_WAIT": "0",
    }
    with running_botfarm("serve", environment=environment) as api:
        url = api.url()
        token = fill(url, CALLERS[caller])
        command = [Path(sys.executable).with_name("schemathesis"), "run", f"{url}/openapi.json", "--no-color"]
        options = [
            *("--header", f"Authorization: Bearer {token}", "--checks", CHECKS),
            *("--phases", PHASES[operations], "--max-examples", "10"),
            *("--include-operation-id" if operations == "login" else "--exclude-operation-id", "login"),
            *("--generation-database", "none", "--warnings", "off", "--continue-on-failure"),
        ]
        hooks = {"PYTHONPATH": str(CHECKOUT / "tests"), "SCHEMATHESIS_HOOKS": "support.json_lines_serializer"}
        run = subprocess.run(
            [*command, *options],
            cwd=tmp_path,
            env=clean_environment(hooks),
            capture_output=True,
            text=True,
            check=False,
        )
    assert run.returncode == 0, run.stdout[-10_000:]
    assert f"{1 if operations == 'login' else 44} selected / 47 total" in run.stdout


def fill(url: str, caller: dict[str, Any]) -> str:
    """Adds rows, so that valid requests get further than invalid ones. Gives the caller's token."""
    with httpx.Client(base_url=f"{url}/api/v1", headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        project = client.post("/projects", json={"name": "shop"}).json()
        for env in ("prod", "preprod", "stage"):
            body = {
                "login": "u@shop.test",
                "password": "x",
                "project_id": project["id"],
                "env": env,
                "domain": "regular",
            }
            client.post("/users", json=body).raise_for_status()
        made = client.post("/tokens", json={"name": "tried", **caller}).raise_for_status()
    return str(made.json()["token"])
