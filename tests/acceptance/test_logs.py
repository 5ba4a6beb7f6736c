"""A server's log: JSON lines with the request's id, never a secret, and no request that waits for the log's reader."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import httpx

from support.farm import KEYS, TOKEN
from support.postgres import two_roles
from support.processes import CHECKOUT, StartedProcess, running_botfarm, start_botfarm

CANARY = "canary-f00d"


def test_every_line_is_json_and_none_has_a_secret(database_url: str) -> None:
    environment = {
        **two_roles(database_url),
        "BOTFARM_ENCRYPTION_KEYS": KEYS,
        "BOTFARM_BOOTSTRAP_TOKEN": TOKEN,
        "BOTFARM_PORT": "0",
        "BOTFARM_LOG_LEVEL": "DEBUG",
    }
    with running_botfarm("serve", environment=environment) as api:
        url = api.url()
        headers = {"Authorization": f"Bearer {TOKEN}", "X-Request-ID": "job-7"}
        with httpx.Client(base_url=f"{url}/api/v1", headers=headers) as client:
            project = client.post("/projects", json={"name": "shop"}).json()
            user = {
                "login": f"{CANARY}@shop.test",
                "password": CANARY,
                "project_id": project["id"],
                "env": "stage",
            }
            assert client.post("/users", json={**user, "domain": "regular"}).status_code == 201
            assert client.post("/users", json={**user, "domain": CANARY}).status_code == 422
            lease = client.post("/leases", json={"project": "shop", "env": "stage", "owner": CANARY}).json()
            assert lease["users"][0]["password"] == CANARY
            client.post(
                "/leases", content=f'{{"env": "{CANARY}', headers={"Content-Type": "application/json"}
            )
            client.get("/users", params={"login": CANARY})
            client.get("/pools", headers={"Authorization": f"Bearer {CANARY}"})
        api.terminate()
        assert api.wait() == 0
        lines = [json.loads(line) for line in api.output.splitlines()]
    assert CANARY not in api.output
    assert TOKEN not in api.output
    requests = [line for line in lines if line["event"] == "request"]
    assert [(line["operation"], line["status"]) for line in requests] == [
        ("create_project", 201),
        ("create_user", 201),
        ("create_user", 422),
        ("acquire_lease", 201),
        ("acquire_lease", 400),
        ("get_users", 200),
        ("get_pools", 401),
    ]
    assert {line["request_id"] for line in requests} == {"job-7"}
    assert all(line["milliseconds"] >= 0 for line in requests)
    assert [line["principal"] for line in requests] == ["bootstrap"] * 6 + [None]


def test_while_nobody_reads_the_log_requests_are_answered_and_their_lines_are_kept(database_url: str) -> None:
    with serving_into_a_pipe(database_url) as (api, url, log):
        answer_requests(url, 100)
        api.terminate()
        requests = [line for line in map(json.loads, log) if line["event"] == "request"]
        assert api.wait(60) == 0
    assert len(requests) == 100


def test_requests_are_answered_after_the_reader_of_the_log_has_gone(database_url: str) -> None:
    with serving_into_a_pipe(database_url) as (api, url, log):
        log.close()
        answer_requests(url, 100)
        api.terminate()
        assert api.wait(60) == 0


@contextmanager
def serving_into_a_pipe(database_url: str) -> Iterator[tuple[StartedProcess, str, TextIO]]:
    """A server whose log is a pipe for some twenty lines, its URL, and the pipe, read up to the line with the URL."""
    environment = {
        **two_roles(database_url),
        "BOTFARM_ENCRYPTION_KEYS": KEYS,
        "BOTFARM_BOOTSTRAP_TOKEN": TOKEN,
        "BOTFARM_PORT": "0",
    }
    reading, writing = os.pipe()
    if hasattr(fcntl, "F_SETPIPE_SZ"):  # Linux; elsewhere a pipe takes more lines
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4_096)
    with open(os.devnull, "r+") as nothing, os.fdopen(reading) as log:  # noqa: PTH123  no path
        files = (nothing.fileno(), nothing.fileno(), writing)
        api = start_botfarm(["serve"], environment, CHECKOUT, files)
        os.close(writing)
        try:
            url = next(line["url"] for line in map(json.loads, log) if line["event"] == "serving")
            yield api, url, log
        finally:
            api.kill()
            api.wait()


def answer_requests(url: str, number: int) -> None:
    with httpx.Client(base_url=f"{url}/api/v1", headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        for _ in range(number):
            assert client.get("/projects").status_code == 200
