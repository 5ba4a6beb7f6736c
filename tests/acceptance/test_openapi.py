"""Our OpenAPI document, held against the server by schemathesis: no 5xx, no status that is not documented."""

import subprocess
import sys
from pathlib import Path

import httpx

from support.farm import KEYS, TOKEN
from support.processes import BOTFARM, running

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def test_the_server_keeps_to_its_document(database_url: str, tmp_path: Path) -> None:
    environment = {
        "BOTFARM_DATABASE_URL": database_url,
        "BOTFARM_ENCRYPTION_KEYS": KEYS,
        "BOTFARM_BOOTSTRAP_TOKEN": TOKEN,
        "BOTFARM_PORT": "0",
        "BOTFARM_MAX_WAIT": "0",
    }
    with running(BOTFARM, "serve", environment=environment) as api:
        url = api.wait_for(r'"url": "(\S+)", "event": "serving"')[1]
        authorization = f"Authorization: Bearer {TOKEN}"
        fill(url)
        command = [Path(sys.executable).with_name("schemathesis"), "run", f"{url}/openapi.json", "--no-color"]
        options = ["--header", authorization, "--checks", CHECKS, "--phases", "examples,coverage,fuzzing"]
        limits = [
            "--max-examples",
            "40",
            "--generation-database",
            "none",
            "--warnings",
            "off",
            "--continue-on-failure",
        ]
        run = subprocess.run(
            [*command, *options, *limits], cwd=tmp_path, capture_output=True, text=True, check=False
        )
    assert run.returncode == 0, run.stdout[-10_000:]
    assert "29 selected / 29 total" in run.stdout


def fill(url: str) -> None:
    """Something to find: a request that is right gets further than one that is wrong."""
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
