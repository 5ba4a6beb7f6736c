"""Keepers and persons with the SDK on a real farm: chores, rotations, marks and holds."""

import asyncio
import gc
import logging
import re
from collections.abc import Iterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from botfarm_client import AsyncBotfarm, Botfarm
from botfarm_client.errors import LeaseLostError, NoRotationError, RotationPendingError, UserBusyError
from support.farm import PASSWORD, TOKEN
from support.live_farm import LiveFarm, live_farm, until
from support.processes import run_botfarm

GUIDE = (Path(__file__).parents[2] / "docs/python.md").read_text()


@pytest.fixture(scope="module")
def live(postgres_url: str, template: str) -> Iterator[LiveFarm]:
    with live_farm(postgres_url, template) as opened:
        yield opened


@pytest.fixture
def farm(live: LiveFarm) -> Iterator[Botfarm]:
    with Botfarm(live.url, TOKEN, env="stage") as opened:
        yield opened


def states(live: LiveFarm, project: str) -> dict[str, Any]:
    """State and health of each user, by its login without the host."""
    users = live.get("/users", project_id=live.project_id(project))["items"]
    return {each["login"].partition("@")[0]: (each["state"], each["health"]) for each in users}


def ends(live: LiveFarm, project: str) -> list[Any]:
    """How the chores of a project have ended, the first one first."""
    return [
        (lease["users"][0].get("outcome") or lease["outcome"], lease["users"][0].get("reason"))
        for lease in live.leases(project, purpose="chore")
    ]


def test_a_loop_does_all_that_is_due_and_ends(live: LiveFarm, farm: Botfarm) -> None:
    project = live.project(3, check_every=3_600)
    seen = {chore.user.login: chore.due for chore in farm.chores(project=project)}
    assert list(seen.values()) == [("check",)] * 3
    assert set(states(live, project).values()) == {("free", "ok")}
    assert ends(live, project) == [("ok", None)] * 3


def test_a_chore_ends_as_it_was_marked_or_released(live: LiveFarm, farm: Botfarm) -> None:
    project = live.project(3, check_every=3_600, clean_attempts=1, quarantine_share=1)
    told = iter([("dirty", None, "cart full"), ("broken", "captcha", None), None])
    for chore in farm.chores(project=project):
        said: Any = next(told)
        if said:
            chore.mark(said[0], reason=said[1], note=said[2])
        else:
            chore.lease.release("broken", "no such page", reason="data")
    assert ends(live, project) == [("dirty", None), ("broken", "captcha"), ("broken", "data")]
    notes = [lease["note"] for lease in live.leases(project)]
    assert notes == ["cart full", None, "no such page"]
    assert next(told, None) is None


def test_a_loop_that_is_left_leaves_its_user_dirty(live: LiveFarm, farm: Botfarm) -> None:
    project = live.project(2, check_every=3_600)
    for chore in farm.chores(project=project):
        assert chore.due
        break
    gc.collect()

    def fail() -> None:
        for _ in farm.chores(project=project):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    gc.collect()
    assert ends(live, project) == [("dirty", None)] * 2
    assert live.leases(project)[0]["note"] == "the chore was not finished"


def test_a_chore_under_which_the_farm_object_is_closed_is_dirty(live: LiveFarm) -> None:
    project = live.project(1, check_every=3_600)
    with Botfarm(live.url, TOKEN, env="stage") as farm:
        chores = farm.chores(project=project)
        next(chores)
    assert ends(live, project) == [("dirty", None)]


def test_a_chore_whose_lease_is_lost_does_not_end_the_loop(
    live: LiveFarm, farm: Botfarm, caplog: pytest.LogCaptureFixture
) -> None:
    project = live.project(1, check_every=3_600)
    turns = []
    with caplog.at_level(logging.WARNING):
        for chore in farm.chores(project=project):
            turns.append(chore.due)
            if len(turns) == 1:
                live.force_release(chore.lease.id)
    assert turns == [("check",), ("clean", "check")]
    assert f"lease {live.leases(project)[0]['id']} is lost" in caplog.text


def test_a_site_that_is_away_ends_a_loop_that_is_not_forever(
    live: LiveFarm, farm: Botfarm, caplog: pytest.LogCaptureFixture
) -> None:
    project = live.project(2, check_every=3_600)
    with caplog.at_level(logging.WARNING):
        for chore in farm.chores(project=project):
            chore.mark("broken", reason="environment")
    assert ends(live, project) == [("broken", "environment")]
    assert "the chores end early: the last one ended with environment" in caplog.text
    assert sorted(states(live, project).values()) == [("free", "unknown"), ("free", "unreachable")]


def test_a_loop_of_tasks_that_runs_forever_waits_for_the_next_chore(live: LiveFarm) -> None:
    project = live.project_for_sdk(1, lock_delay=0)
    live.http.patch(f"/projects/{live.project_id(project.name)}", json={"cleaning": "required"})

    async def keep() -> list[tuple[str, ...]]:
        due = []
        async with project.async_farm() as farm, aclosing(farm.chores(forever=True)) as chores:
            async for chore in chores:
                due.append(chore.due)
                if len(due) == 2:
                    break
        return due

    async def main() -> list[tuple[str, ...]]:
        keeping = asyncio.create_task(keep())
        for number in range(2):
            await asyncio.to_thread(until, lambda: project.waiting() == 1)
            lease = live.take(project.name)
            live.http.post(f"/leases/{lease['id']}/release").raise_for_status()
            await asyncio.to_thread(
                until, lambda done=number: len(live.leases(project.name, purpose="chore")) > done
            )
        return await keeping

    assert asyncio.run(main()) == [("clean",), ("clean",)]
    assert ends(live, project.name) == [("ok", None), ("dirty", None)]


def test_a_keeper_changes_a_password_in_two_phases(live: LiveFarm, farm: Botfarm) -> None:
    project = live.project(1, rotate_on_release=True)
    with Botfarm(live.url, TOKEN, project=project, env="stage") as tests, tests.lease():
        pass
    passwords = []
    for chore in farm.chores(project=project):
        assert (chore.due, chore.user.pending_password) == (("clean", "rotate"), None)
        pending = chore.lease.start_rotation(chore.user)
        assert chore.user.pending_password == pending
        assert chore.lease.start_rotation() == pending
        with pytest.raises(RotationPendingError):
            chore.lease.start_rotation(password="another")
        assert chore.user.password == PASSWORD
        shown = repr(chore) + repr(chore.user) + str(chore.lease)
        chore.lease.confirm_rotation(chore.user)
        assert (chore.user.password, chore.user.pending_password) == (pending, None)
        passwords.append(pending)
        assert pending not in shown
    with Botfarm(live.url, TOKEN, project=project, env="stage") as tests, tests.lease() as lease:
        assert lease.user.password == passwords[0]


def test_the_next_keeper_has_both_passwords_of_a_rotation_that_was_broken_off(live: LiveFarm) -> None:
    project = live.project_for_sdk(1, lock_delay=0)
    live.http.patch(f"/projects/{live.project_id(project.name)}", json={"check_every": 3_600})

    async def start() -> str:
        async with project.async_farm() as farm:
            lease = await farm.acquire(purpose="chore", wait=0)
            with pytest.raises(NoRotationError):
                await lease.confirm_rotation()
            pending = await lease.start_rotation(password="a new one")
            await lease.release("dirty")
            return pending

    async def finish() -> tuple[str | None, str]:
        async with project.async_farm() as farm:
            async for chore in farm.chores():
                found = chore.user.pending_password
                await chore.lease.confirm_rotation()
                both = found, chore.user.password
            return both

    assert asyncio.run(start()) == "a new one"
    assert asyncio.run(finish()) == ("a new one", "a new one")


class Shop:
    """The system under test, which knows one password of each account."""

    def __init__(self, passwords: dict[str, str]) -> None:
        self.passwords = passwords

    def accepts(self, login: str, password: str) -> bool:
        return self.passwords[login] == password

    def set_password(self, login: str, password: str) -> None:
        self.passwords[login] = password


def test_the_keeper_of_the_guide_loses_no_password(
    live: LiveFarm, farm: Botfarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = live.project(4, rotate_on_release=True, quarantine_share=1)
    lease = live.take(project, count=4)
    fine, rejected, *killed = [user["login"] for user in lease["users"]]
    live.http.post(f"/leases/{lease['id']}/release").raise_for_status()
    shop = Shop({fine: PASSWORD, rejected: "locked", killed[0]: PASSWORD, killed[1]: "set"})
    for chore in farm.chores(
        project=project
    ):  # a keeper that is killed before, and after, it sets the password
        if chore.user.login in killed:
            password = "set" if chore.user.login == killed[1] else None
            chore.lease.start_rotation(password=password)
        chore.mark("dirty")
        if all(
            live.get(f"/users/{each['id']}")["is_rotating"]
            for each in lease["users"]
            if each["login"] in killed
        ):
            break
    for name, value in live.environment.items():
        monkeypatch.setenv(name, value)
    keeper = re.findall(r"^```python\n(.+?)^```", GUIDE, re.MULTILINE | re.DOTALL)[1]
    exec(keeper.replace('"shop"', repr(project)), {"shop": shop})
    found = states(live, project)
    assert found.pop(rejected.partition("@")[0]) == ("quarantined", "failing")
    assert set(found.values()) == {("free", "ok")}
    with Botfarm(live.url, TOKEN, project=project, env="stage") as tests, tests.lease(count=3) as held:
        assert all(shop.accepts(user.login, user.password) for user in held.users)
        assert {user.login for user in held.users if user.password == "set"} == {killed[1]}


def test_a_keeper_stores_a_session_with_its_end(live: LiveFarm, farm: Botfarm) -> None:
    project = live.project(1, session_refresh=600)
    with Botfarm(live.url, TOKEN, project=project, env="stage") as tests, tests.lease() as lease:
        with pytest.raises(ValueError, match="no time zone"):
            lease.write_back(session_expires_at=datetime(2026, 1, 1))  # noqa: DTZ001
        lease.write_back(secrets={"session": "s"}, session_expires_at=datetime.now(UTC))
    for chore in farm.chores(project=project):
        assert chore.due == ("session",)
        chore.lease.write_back(session_expires_at=datetime.now(UTC) + timedelta(days=1))
    assert ends(live, project) == [("ok", None)]


def test_only_the_user_that_broke_is_said_to_be_broken(live: LiveFarm) -> None:
    project = live.project(2, quarantine_after=1, quarantine_share=1)
    with Botfarm(live.url, TOKEN, project=project, env="stage") as farm, farm.lease(count=2) as lease:
        broken = lease.users[0]
        lease.mark(broken, "broken", reason="captcha", note="at sign-in")
    (there,) = live.leases(project)
    assert {each["id"]: each.get("reason") for each in there["users"]}[broken.id] == "captcha"
    found = states(live, project)
    assert found.pop(broken.login.partition("@")[0])[0] == "quarantined"
    assert [state for state, _ in found.values()] == ["free"]


def test_a_person_holds_one_user(live: LiveFarm, farm: Botfarm) -> None:
    project = live.project(2)
    user = live.get("/users", project_id=live.project_id(project))["items"][0]
    with farm.lease(purpose="hold", user_id=user["id"], note="a look at the cart") as lease:
        assert (lease.user.login, lease.pool) == (user["login"], user["id"])
        (there,) = live.leases(project)
        assert (there["purpose"], there["note"]) == ("hold", "a look at the cart")
        with pytest.raises(UserBusyError):
            farm.acquire(purpose="hold", user_id=user["id"], note="me too")
        with Botfarm(live.url, TOKEN, project=project, env="stage") as other:
            assert other.acquire(purpose="hold", note="any").user.id != user["id"]
    assert {lease["ended_by"] for lease in live.leases(project)} == {"released"}


def test_a_lease_that_was_released_gives_no_pending_password(live: LiveFarm, farm: Botfarm) -> None:
    project = live.project(1, check_every=3_600)
    (chore,) = farm.chores(project=project)
    with pytest.raises(LeaseLostError):
        _ = chore.user.pending_password


async def test_every_way_of_asking_gives_a_code_of_its_own(live: LiveFarm) -> None:
    project = live.project(0)
    seed = "otpauth://totp/shop?secret=JBSWY3DPEHPK3PXP&digits=10&period=1"
    live.user(live.project_id(project), login="codes@shop.test", totp_seed=seed)
    pool = {"project": project, "env": "stage"}
    with Botfarm(live.url, TOKEN, **pool) as farm, farm.lease() as lease:
        codes = [lease.user.totp(), lease.user.totp(good_for=20)]
        finished = run_botfarm("leases", "totp", lease.id, environment=live.environment)
        assert finished.returncode == 0, finished.stderr
        codes.append(finished.stdout.strip())
    async with AsyncBotfarm(live.url, TOKEN, **pool) as async_farm, async_farm.lease() as held:
        codes.append(await held.user.totp(good_for=0))
    assert all(re.fullmatch(r"\d{10}", code) for code in codes)
    assert len(set(codes)) == 4
