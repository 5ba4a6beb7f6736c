"""The image is built, and all of docker-compose.yml comes up; only Grafana is missing where stand-ins are."""

import json
import re
import shlex
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest

from container_engine import Engine, container_engine
from farm_processes import free_port
from stages import CHECKOUT, run

pytestmark = pytest.mark.timeout(1800)
# With a base of about 120 MB the image is under 200.
MAX_MEGABYTES_ON_TOP = 78
POOL = {"project": "bank", "env": "stage"}
"""Not the one whose users the runners of the demo take."""
NETWORK = "10.213.78"
"""Not the one of a farm that runs here already."""
JOBS = ["alertmanager", "botfarm-api", "botfarm-api", "botfarm-worker", "haproxy", "prometheus"]
ASK_A_REPLICA = f"""
import sys, urllib.request
headers = {{
    "Authorization": sys.argv[1],
    "Content-Type": "application/json",
    "X-Forwarded-For": "203.0.113.7",
}}
body = {json.dumps({**POOL, "wait_seconds": 20}).encode()}
request = urllib.request.Request("http://api:8000/api/v1/leases", body, headers)
print(urllib.request.urlopen(request).read().decode())
"""
OPERATIONS = (CHECKOUT / "docs/operations.md").read_text()


@dataclass(frozen=True)
class Stack:
    engine: Engine
    folder: Path
    environment: dict[str, str]

    @property
    def env_file(self) -> Path:
        return self.folder / ".env"

    @property
    def command(self) -> list[str]:
        options = ("--env-file", str(self.env_file), "--project-name", "botfarm-test")
        return [*self.engine.compose_command, *options]

    def compose(self, *arguments: str) -> str:
        return self._run(*self.command, *arguments)

    def start(self) -> None:
        try:
            self.compose("up", "--detach", "--wait")
        except AssertionError:
            print(self.compose("logs", "--no-color", "--tail=50"))  # noqa: T201  shown with the failure
            raise

    def do_as_documented(self, section: str) -> str:
        """Runs the commands of docs/operations.md word for word; only Compose is called our way."""
        block = re.search(rf"^## {section}$.*?^```sh$(.*?)^```$", OPERATIONS, re.MULTILINE | re.DOTALL)
        assert block
        return self._run("sh", "-euxc", block[1].replace("docker compose", shlex.join(self.command)))

    def _run(self, *command: str) -> str:
        surroundings = {**self.engine.environment, **self.environment}
        return run(*command, cwd=self.folder, environment=surroundings, seconds=900)

    def url(self, setting: str) -> str:
        return f"http://127.0.0.1:{self.environment[setting]}"

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "--quiet", service).split()


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with TemporaryDirectory(prefix="botfarm-stack-") as name, container_engine(Path(name)) as engine:
        folder = Path(name)
        (folder / "deploy").mkdir()
        (folder / "deploy/env.sh").write_text((CHECKOUT / "deploy/env.sh").read_text())
        run("sh", str(folder / "deploy/env.sh"))
        ports = ("BOTFARM_PORT", "PROMETHEUS_PORT", "ALERTMANAGER_PORT", "GRAFANA_PORT")
        environment = {port: str(free_port()) for port in ports} | {
            "BOTFARM_IMAGE": "botfarm-test",
            "BOTFARM_NETWORK": NETWORK,
        }
        stack = Stack(engine, folder, environment)
        try:
            stack.compose("build")
            stack.start()
            yield stack
        finally:
            stack.compose("down", "--volumes", "--timeout", "40")


@pytest.fixture(scope="module")
def api(stack: Stack) -> Iterator[httpx.Client]:
    token = re.search(r"^BOTFARM_BOOTSTRAP_TOKEN=(.*)$", stack.env_file.read_text(), re.MULTILINE)
    assert token
    headers = {"Authorization": f"Bearer {token[1]}"}
    with httpx.Client(base_url=f"{stack.url('BOTFARM_PORT')}/api/v1", headers=headers, timeout=60) as client:
        yield client


def lease_and_release(api: httpx.Client) -> None:
    lease = api.post("/leases", json={**POOL, "wait_seconds": 20})
    assert lease.status_code == 201, lease.text
    assert lease.json()["users"][0]["password"]
    assert api.post(f"/leases/{lease.json()['id']}/release").status_code == 200


def test_a_lease_goes_through_the_balancer(api: httpx.Client) -> None:
    lease_and_release(api)


def test_the_callers_address_is_seen_and_none_that_is_made_up(api: httpx.Client) -> None:
    made_up = {"X-Forwarded-For": "203.0.113.7"}
    lease = api.post("/leases", json={**POOL, "wait_seconds": 20}, headers=made_up).json()
    assert api.post(f"/leases/{lease['id']}/release").status_code == 200
    (hand_out,) = api.get("/audit", params={"target_id": lease["id"]}).json()["items"]
    assert hand_out["address"] == f"{NETWORK}.1"


def test_the_api_believes_no_neighbour_of_the_balancer(stack: Stack, api: httpx.Client) -> None:
    """Nor do other containers, such as those of the demo, choose their address at a replica itself."""
    token = api.headers["authorization"]
    lease = json.loads(
        stack.engine.docker("exec", stack.containers("worker")[0], "python3", "-c", ASK_A_REPLICA, token)
    )
    assert api.post(f"/leases/{lease['id']}/release").status_code == 200
    (hand_out,) = api.get("/audit", params={"target_id": lease["id"]}).json()["items"]
    assert hand_out["address"].startswith(f"{NETWORK}.")


def test_prometheus_scrapes_every_process_and_knows_our_alerts(stack: Stack, api: httpx.Client) -> None:
    with httpx.Client(base_url=f"{stack.url('PROMETHEUS_PORT')}/api/v1", timeout=30) as prometheus:
        deadline = time.monotonic() + 90
        up: list[str] = []
        served: set[str] = set()
        while sorted(up) != JOBS or len(served) < 2:
            assert time.monotonic() < deadline, (up, served)
            lease_and_release(api)
            up = [each["metric"]["job"] for each in _query(prometheus, "up == 1")]
            served = {
                each["metric"]["instance"]
                for each in _query(
                    prometheus, 'botfarm_http_requests_total{route="/api/v1/leases", status="201"} > 0'
                )
            }
        rules = prometheus.get("/rules").json()["data"]["groups"]
        managers = prometheus.get("/alertmanagers").json()["data"]["activeAlertmanagers"]
    assert len([rule for group in rules for rule in group["rules"] if rule["type"] == "alerting"]) > 10
    assert [manager["url"] for manager in managers] == ["http://alertmanager:9093/api/v2/alerts"]


def test_the_runners_of_the_demo_have_leases(api: httpx.Client) -> None:
    deadline = time.monotonic() + 60
    owners: set[str] = set()
    while len(owners) < 2:
        assert time.monotonic() < deadline, owners
        leases = api.get("/leases", params={"state": "active"}).json()["items"]
        owners |= {lease["owner"] for lease in leases if (lease["owner"] or "").startswith("runner-")}


def test_the_keeper_of_the_demo_finds_its_accounts_healthy(api: httpx.Client) -> None:
    deadline = time.monotonic() + 120
    while not api.get("/users", params={"env": "stage", "health": "ok"}).raise_for_status().json()["items"]:
        assert time.monotonic() < deadline, api.get("/users", params={"env": "stage"}).text
        time.sleep(0.5)


def _query(prometheus: httpx.Client, query: str) -> list[dict[str, dict[str, str]]]:
    return list(prometheus.get("/query", params={"query": query}).json()["data"]["result"])


def test_processes_are_nobody_on_a_file_system_that_they_cannot_write(stack: Stack) -> None:
    for service in ("api", "worker"):
        for container in stack.containers(service):
            said = stack.engine.docker("exec", container, "id", "-u")
            assert said.strip() == "10001"
            form = "{{.HostConfig.ReadonlyRootfs}} {{.State.Health.Status}} {{.HostConfig.LogConfig.Type}}"
            assert stack.engine.docker("inspect", "--format", form, container).strip() == "true healthy local"


def test_no_tool_for_building_is_in_our_part_of_the_image(stack: Stack) -> None:
    container = stack.containers("worker")[0]
    inside = stack.engine.docker(
        "exec", container, "sh", "-c", "ls /opt /opt/botfarm/bin /opt/botfarm/lib/python*/site-packages"
    )
    assert "botfarm" in inside.split()
    assert not {"pip", "setuptools", "hatchling", "wheel", "tools"} & set(inside.split())


def test_the_image_is_small(stack: Stack) -> None:
    form = ("--human=false", "--no-trunc", "--format", "{{.Size}} {{.CreatedBy}}")
    layers = stack.engine.docker("history", *form, "botfarm-test").splitlines()
    first_of_ours = next(number for number, layer in enumerate(layers) if "groupadd" in layer)
    megabytes = sum(int(layer.split()[0]) for layer in layers[: first_of_ours + 1]) / 1e6
    assert 20 < megabytes < MAX_MEGABYTES_ON_TOP


def test_a_replica_that_is_killed_costs_no_request_that_comes_after(stack: Stack, api: httpx.Client) -> None:
    victim, survivor = stack.containers("api")
    stack.engine.docker("kill", victim)
    with ThreadPoolExecutor(4) as callers:
        for finished in [callers.submit(lease_and_release, api) for _ in range(40)]:
            finished.result()
    assert survivor in stack.containers("api")


def test_runners_that_are_stopped_give_back_what_they_hold(stack: Stack, api: httpx.Client) -> None:
    stack.compose("stop", "--timeout", "40", "runners")
    leases = api.get("/leases", params={"state": "active"}).json()["items"]
    assert [lease["owner"] for lease in leases if lease["purpose"] == "test"] == []


def test_a_backup_is_restored_as_documented_and_nobody_is_handed_out_at_once(
    stack: Stack, api: httpx.Client
) -> None:
    stack.do_as_documented("Backup")
    lost = api.post("/leases", json={**POOL, "wait_seconds": 20})
    assert lost.status_code == 201, lost.text
    assert "Nobody gets any" in stack.do_as_documented("Restore")
    assert api.post(f"/leases/{lost.json()['id']}/renew").status_code == 404
    refused = api.post("/leases", json=POOL)
    assert refused.status_code == 409, refused.text
    assert refused.json()["resting"] == refused.json()["total"]


def test_it_stops_in_order(stack: Stack) -> None:
    containers = [*stack.containers("api"), *stack.containers("worker")]
    stack.compose("stop", "--timeout", "40", "api", "worker")
    codes = [
        stack.engine.docker("inspect", "--format", "{{.State.ExitCode}}", each).strip() for each in containers
    ]
    assert codes == ["0"] * len(containers)


def test_without_a_replica_the_answer_is_a_problem_that_says_to_try_again(
    stack: Stack, api: httpx.Client
) -> None:
    stack.compose("stop", "--timeout", "40", "api")
    answer = api.post("/leases", json=POOL)
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"] == "1"
    problem = answer.json()
    assert problem.pop("request_id") == answer.headers["x-request-id"]
    assert problem.pop("detail")
    assert problem == {
        "type": "urn:botfarm:problem:shutting-down",
        "title": "Shutting down",
        "status": 503,
    }
