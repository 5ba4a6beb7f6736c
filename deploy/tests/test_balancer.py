"""deploy/haproxy/haproxy.cfg in a real HAProxy before a real API: which addresses it trusts and refuses."""

import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from farm_processes import FarmProcesses, farm_processes, free_port
from stages import DEPLOY, skip
from support.farm import TOKEN
from support.processes import running

FRONT_PROXY, STRANGER = "127.0.0.9", "127.0.0.8"
"""Addresses of this machine, as all of 127.0.0.0/8 are on Linux."""
POOL = {"project": "bank", "env": "stage"}


@pytest.fixture(scope="module")
def farm(database_url: str) -> Iterator[FarmProcesses]:
    with farm_processes(database_url, BOTFARM_TRUSTED_PROXIES="127.0.0.1") as farm:
        yield farm


@contextmanager
def haproxy(api: str, folder: Path, *, front_proxies: str = FRONT_PROXY) -> Iterator[str]:
    """Runs the deployed file and gives its URL. Only ports, Docker's names and one timeout are replaced."""
    program = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        skip("haproxy", "it is not installed, and only root can install it")
    port = free_port()
    text = (DEPLOY / "haproxy/haproxy.cfg").read_text()
    for deployed, here in (
        ("bind :8000", f"bind 127.0.0.1:{port}"),
        ("bind :8405", f"bind 127.0.0.1:{free_port()}"),
        ("server-template replica 8 api:8000", f"server replica {urlsplit(api).netloc}"),
        (" resolvers docker init-addr none", ""),
        ("timeout http-request 10s", "timeout http-request 1s"),
    ):
        assert deployed in text
        text = text.replace(deployed, here)
    configuration = folder / "haproxy.cfg"
    configuration.write_text(text)
    environment = {"BOTFARM_FRONT_PROXIES": front_proxies}
    with running(program, "-W", "-db", "-f", str(configuration), environment=environment) as process:
        process.wait_for("Server api/replica is UP|Loading success")
        url = f"http://127.0.0.1:{port}"
        with client(url) as someone:
            while someone.get("/readyz").status_code != httpx.codes.OK:
                process.wait_for("")  # fails when it has ended
        yield url


@pytest.fixture(scope="module")
def balancer(farm: FarmProcesses, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with haproxy(farm.url, tmp_path_factory.mktemp("balancer")) as url:
        yield url


def client(url: str, source: str = STRANGER) -> httpx.Client:
    return httpx.Client(
        base_url=url,
        transport=httpx.HTTPTransport(local_address=source),
        headers={"Authorization": f"Bearer {TOKEN}"},
        timeout=30,
    )


def address_seen(url: str, source: str, headers: list[tuple[str, str]]) -> str:
    """Of a caller that takes a lease and gives it back."""
    with client(url, source) as caller:
        lease = caller.post("/api/v1/leases", json={**POOL, "wait_seconds": 20}, headers=headers).json()
        assert caller.post(f"/api/v1/leases/{lease['id']}/release").status_code == httpx.codes.OK
        (hand_out,) = caller.get("/api/v1/audit", params={"target_id": lease["id"]}).json()["items"]
    return str(hand_out["address"])


MADE_UP = ["203.0.113.7", "127.0.0.1", "<b>made up</b> any text", "203.0.113.7, 127.0.0.1", ""]


@pytest.mark.parametrize("said", MADE_UP)
def test_what_a_caller_says_of_itself_is_removed(balancer: str, said: str) -> None:
    headers = [("X-Forwarded-For", said), ("x-forwarded-for", "198.51.100.1"), ("Forwarded", f"for={said}")]
    assert address_seen(balancer, STRANGER, headers) == STRANGER


@pytest.mark.parametrize("said", ["203.0.113.7", "198.51.100.66, 203.0.113.7"])
def test_a_front_proxy_that_is_named_says_whom_it_was_called_by(balancer: str, said: str) -> None:
    assert address_seen(balancer, FRONT_PROXY, [("X-Forwarded-For", said)]) == "203.0.113.7"
    assert address_seen(balancer, FRONT_PROXY, []) == FRONT_PROXY


def test_only_a_front_proxy_says_that_it_was_called_by_https(balancer: str) -> None:
    for source, is_believed in ((STRANGER, False), (FRONT_PROXY, True)):
        with client(balancer, source) as caller:
            answer = caller.get("/api/v1/pools", headers={"X-Forwarded-Proto": "https"})
        assert ("strict-transport-security" in answer.headers) is is_believed


def test_where_none_is_named_nobody_is_believed(farm: FarmProcesses, tmp_path: Path) -> None:
    with haproxy(farm.url, tmp_path, front_proxies="") as url:
        for source in (STRANGER, FRONT_PROXY):
            assert address_seen(url, source, [("X-Forwarded-For", "203.0.113.7")]) == source


@pytest.mark.parametrize("path", ["/api/v1/auth/login", "/api/v1/auth/%6cogin", "/ui/sign-in"])
def test_a_flood_of_logins_ends_at_the_balancer_whatever_address_it_makes_up(
    farm: FarmProcesses, tmp_path: Path, path: str
) -> None:
    # Without a body: the API refuses it at once, and the throttle of guesses has no part in this.
    with haproxy(farm.url, tmp_path) as url, client(url) as flood, client(url, "127.0.0.7") as neighbour:
        answers = [
            flood.post(path, headers={"X-Forwarded-For": f"203.0.113.{number}"}) for number in range(40)
        ]
        assert [answer.status_code for answer in answers] == [422] * 30 + [429] * 10
        refused = answers[-1]
        problem = refused.json()
        assert refused.headers["content-type"] == "application/problem+json"
        assert problem["type"] == "urn:botfarm:problem:slow-down"
        assert problem["request_id"] == refused.headers["x-request-id"]
        assert refused.headers["retry-after"] == str(problem["retry_after"])
        assert neighbour.post(path).status_code == 422
        assert flood.get("/api/v1/pools").status_code == httpx.codes.OK


def test_half_a_head_is_not_waited_for(balancer: str) -> None:
    parts = urlsplit(balancer)
    with socket.create_connection((str(parts.hostname), parts.port or 0), timeout=20) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: fa")
        received = b"".join(iter(lambda: connection.recv(4_096), b""))
    assert re.match(rb"HTTP/1.\S 408 ", received)


def test_the_farm_is_told_that_a_waiting_caller_has_hung_up(balancer: str) -> None:
    """Else a later release would grant a user to nobody, for the whole time of a lease."""
    with client(balancer) as holder:

        def waiting() -> list[object]:
            return list(holder.get("/api/v1/leases/waiting").json()["items"])

        project = {"id": str(uuid4()), "name": "one-user"}
        pool = {"project_id": project["id"], "env": "stage"}
        user = {**pool, "login": "only@shop.test", "password": "secret", "domain": "regular"}
        assert holder.post("/api/v1/projects", json=project).status_code == httpx.codes.CREATED
        assert holder.post("/api/v1/users", json=user).status_code == httpx.codes.CREATED
        taken = holder.post("/api/v1/leases", json=pool).json()
        caller = HTTPConnection(urlsplit(balancer).netloc)
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        caller.request("POST", "/api/v1/leases", json.dumps({**pool, "wait_seconds": 60}), headers)
        until(waiting)
        caller.close()
        until(lambda: not waiting())
        assert holder.post(f"/api/v1/leases/{taken['id']}/release").status_code == httpx.codes.OK
        assert holder.post("/api/v1/leases", json=pool).status_code == httpx.codes.CREATED


def until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)
