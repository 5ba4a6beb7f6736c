"""Test runs of every kind: those that end well, that die, that wait, that wait in vain; and a keeper after them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx

from farm_processes import FarmProcesses

POOL = {"project": "shop", "env": "stage", "domain": "regular"}
SMALL_POOL = {"project": "bank", "env": "stage", "domain": "canary"}
KEPT_POOL = {"project": "bank", "env": "preprod", "domain": "regular"}
USERS_OF_A_POOL = 5


@contextmanager
def under_load(farm: FarmProcesses) -> Iterator[None]:
    """Round after round until the block ends. A round that fails, fails the test."""
    over, failures = threading.Event(), list[BaseException]()

    def rounds() -> None:
        try:
            with farm.client() as client:
                while not over.is_set():
                    play_a_round(client)
        except BaseException as failure:  # noqa: BLE001  raised below, in the thread of the test
            failures.append(failure)

    thread = threading.Thread(target=rounds)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert failures == []


def play_a_round(client: httpx.Client) -> None:
    for outcome in ("ok", "dirty"):
        lease = acquire(client)
        _expect(client.post(f"/leases/{lease['id']}/renew"), 200)
        _expect(client.post(f"/leases/{lease['id']}/release", json={"outcome": outcome}), 200)
    _a_user_by_its_id(client)
    _a_broken_user(client)
    _a_runner_that_dies(client)
    _a_lost_answer(client)
    _somebody_who_waits_in_vain(client)
    _a_keeper(client)
    _users_that_fail_at_once(client)
    for page in ("/pools", "/users", "/leases"):
        _expect(client.get(page), 200)


def acquire(client: httpx.Client, **wanted: Any) -> dict[str, Any]:
    return dict(_expect(client.post("/leases", json={**POOL, "wait_seconds": 30, **wanted}), 201).json())


def _a_user_by_its_id(client: httpx.Client) -> None:
    user = _expect(client.get("/users", params={"env": "prod", "limit": 1}), 200).json()["items"][0]
    _expect(client.post(f"/users/{user['id']}/acquire_lock"), 200)
    _expect(client.post(f"/users/{user['id']}/release_lock"), 200)


def _a_broken_user(client: httpx.Client) -> None:
    lease = acquire(client)
    _expect(
        client.post(f"/leases/{lease['id']}/release", json={"outcome": "broken", "note": "a captcha"}), 200
    )
    _expect(client.post(f"/users/{lease['users'][0]['id']}/restore"), 200)


def _a_runner_that_dies(client: httpx.Client) -> None:
    lease = acquire(client, ttl_seconds=1, env="preprod")
    threading.Event().wait(1.1)  # the subject: its time passes
    _expect(client.post(f"/leases/{lease['id']}/renew"), 410)


def _a_lost_answer(client: httpx.Client) -> None:
    key = {"Idempotency-Key": uuid4().hex}
    for status in (201, 200):
        lease = _expect(client.post("/leases", json=POOL, headers=key), status).json()
    _expect(client.post(f"/leases/{lease['id']}/force_release", json={"reason": "a test"}), 200)


def _somebody_who_waits_in_vain(client: httpx.Client) -> None:
    everything = acquire(client, **SMALL_POOL, count=USERS_OF_A_POOL)
    for wait_seconds in (0, 1):
        _expect(client.post("/leases", json={**SMALL_POOL, "wait_seconds": wait_seconds}), 409)
    _expect(client.post(f"/leases/{everything['id']}/release"), 200)


def _a_keeper(client: httpx.Client) -> None:
    projects = _expect(client.get("/projects"), 200).json()["items"]
    (bank,) = [project for project in projects if project["name"] == KEPT_POOL["project"]]
    policy = {"cleaning": "on_dirty", "quarantine_after": 1}
    _expect(client.patch(f"/projects/{bank['id']}", json=policy), 200)
    dirty = acquire(client, **KEPT_POOL)
    _expect(client.post(f"/leases/{dirty['id']}/release", json={"outcome": "dirty"}), 200)
    chore = acquire(client, **KEPT_POOL, purpose="chore")
    assert chore["users"][0]["due"] == ["clean"]
    _expect(client.post(f"/leases/{chore['id']}/release", json={"outcome": "ok"}), 200)


def _users_that_fail_at_once(client: httpx.Client) -> None:
    """The policy quarantines one of the small pool within an hour; the rest stay."""
    lease = acquire(client, **KEPT_POOL, count=2)
    _expect(
        client.post(f"/leases/{lease['id']}/release", json={"outcome": "broken", "reason": "captcha"}), 200
    )
    for user in lease["users"]:
        _expect(client.post(f"/users/{user['id']}/restore"), 200)


def _expect(answer: httpx.Response, status: int) -> httpx.Response:
    assert answer.status_code == status, f"{answer.request.method} {answer.request.url}: {answer.text}"
    return answer
