"""The command of the chart's keepers does chores of the real farm, and ends as Kubernetes ends a pod."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from farm_load import POOL, acquire
from farm_processes import FarmProcesses, farm_processes
from manifests import VALUES, Manifest, pod_templates, render
from stages import run
from support.processes import BOTFARM, running


@pytest.fixture(scope="module")
def farm(database_url: str) -> Iterator[FarmProcesses]:
    with farm_processes(database_url) as farm:
        yield farm


@pytest.fixture
def client(farm: FarmProcesses) -> Iterator[httpx.Client]:
    with farm.client() as client:
        projects = client.get("/projects").json()["items"]
        (shop,) = [project["id"] for project in projects if project["name"] == POOL["project"]]
        assert client.patch(f"/projects/{shop}", json={"cleaning": "on_dirty"}).is_success
        yield client


def dirty_user(client: httpx.Client) -> str:
    lease = acquire(client)
    assert client.post(f"/leases/{lease['id']}/release", json={"outcome": "dirty"}).is_success
    return str(lease["users"][0]["id"])


def user(client: httpx.Client, user_id: str) -> dict[str, Any]:
    return dict(client.get(f"/users/{user_id}").json())


def pod_of(command: str, **more: str) -> Manifest:
    keeper = {
        "name": "kept",
        **POOL,
        "image": "i",
        "command": ["sh", "-c", command],
        "tokenSecret": "s",
        **more,
    }
    templates = pod_templates(render(VALUES["least"], f"keepers={json.dumps([keeper])}"))
    spec: Manifest = templates["keeper-kept"]["spec"]
    return spec


def command_of(pod: Manifest) -> list[str]:
    (container,) = pod["containers"]
    assert container["command"] == ["botfarm"]
    return [BOTFARM, *container["args"]]


def environment_of(pod: Manifest, client: httpx.Client, farm: FarmProcesses, folder: Path) -> dict[str, str]:
    """Its variables, with the farm and the folder of the test, and a token of the role keeper."""
    scope = {"projects": [POOL["project"]], "envs": [POOL["env"]]}
    made = client.post("/tokens", json={"name": "keeper", "role": "keeper", **scope}).json()
    (folder / "botfarm_token").write_text(f"{made['token']}\n")
    here = {"BOTFARM_URL": farm.url, "BOTFARM_TOKEN_FILE": str(folder / "botfarm_token"), "HOME": str(folder)}
    (container,) = pod["containers"]
    return {each["name"]: here[each["name"]] for each in container["env"]}


def test_a_nightly_keeper_cleans_what_is_dirty_and_ends(
    farm: FarmProcesses, client: httpx.Client, tmp_path: Path
) -> None:
    user_ids = [dirty_user(client), dirty_user(client)]
    pod = pod_of('test "$BOTFARM_DUE" = clean', schedule="@daily")
    run(*command_of(pod), environment=environment_of(pod, client, farm, tmp_path))
    for user_id in user_ids:
        assert [user(client, user_id)[name] for name in ("status", "health")] == ["active", "ok"]


def test_a_waiting_keeper_that_is_told_to_stop_releases_its_lease_in_the_grace_period(
    farm: FarmProcesses, client: httpx.Client, tmp_path: Path
) -> None:
    pod = pod_of("echo at work; exec sleep 600")
    environment = environment_of(pod, client, farm, tmp_path)
    with running(*command_of(pod), environment=environment) as keeper:
        user_id = dirty_user(client)
        keeper.wait_for("at work")
        assert user(client, user_id)["state"] == "chore"
        keeper.terminate()
        keeper.wait(seconds=pod["terminationGracePeriodSeconds"])
    assert user(client, user_id)["state"] == "dirty"
