"""The page of one user, and what people do there."""

import asyncio
import re
from typing import Any
from uuid import uuid4

import httpx
import pytest

from botfarm.domain.access import EVERYTHING, Role, Scope
from botfarm.domain.leases import Outcome, Purpose, Reason
from botfarm.domain.users import User, UserState, UserStatus
from botfarm.errors import NoSuchUserError
from support.farm import MANAGER, Farm
from support.pages import FRAGMENT, browser_of, followed, read, submit

JOB = "https://ci.test/acme/shop/runs/4711"
PROBE = "<img src=x>"
ACTIONS = {
    "quarantine": {"reason": "locked"},
    "restore": {},
    "retire": {"reason": "gone"},
    "labels": {"label": "team:red"},
    "hold": {"lasts": "900"},
    "delete": {},
}
FORCED = {"reason": "its runner is gone"}


async def one_user(farm: Farm, **policy: Any) -> User:
    return await farm.user(await farm.pool(0, **{"lock_delay": 0, **policy}))


def page_of(user: User) -> str:
    return f"/ui/users/{user.id}"


async def audited(farm: Farm, user: User, action: str) -> list[str]:
    """The principals of this action on the user."""
    rows = await farm.sql.fetch(
        "SELECT principal FROM audit WHERE target_id = $1 AND action = $2 ORDER BY id", str(user.id), action
    )
    return [row["principal"] for row in rows]


@pytest.mark.parametrize("role", Role)
async def test_every_role_sees_a_user_and_managers_are_offered_its_changes(
    farm: Farm, api: httpx.AsyncClient, role: Role
) -> None:
    user = await one_user(farm)
    grant = await farm.lock(user.id)
    changes = {f"{page_of(user)}/{action}": fields for action, fields in ACTIONS.items()}
    changes[f"/ui/leases/{grant.lease.id}/force-release"] = FORCED
    async with browser_of(farm, api, role) as browser:
        page = await browser.get(page_of(user))
        assert page.status_code == 200
        assert user.login in page.text
        offered = read(page).forms
        if role.includes(Role.MANAGER):
            # A leased user is neither held nor deleted, and an active one not restored: the page says so.
            assert {f"{page_of(user)}/quarantine", f"/ui/leases/{grant.lease.id}/force-release"} <= set(
                offered
            )
            for word in (
                "Hold: somebody has it",
                "Delete: somebody has it",
                "Restore: the user is in service",
            ):
                assert word in page.text
            return
        assert offered == {}
        assert "They need the role manager." in page.text
        for address, fields in changes.items():
            refused = await browser.post(address, data={"seen": user.version, **fields})
            assert refused.status_code == 403, address
            assert "This needs the role manager." in refused.text
    assert (await farm.seen(user.id)).version == user.version
    assert (await farm.seen(user.id)).locktime is not None


async def test_the_page_says_who_has_a_user_with_a_link_to_the_job(
    farm: Farm, api: httpx.AsyncClient
) -> None:
    user = await one_user(farm)
    await farm.lock(user.id, owner="e2e #4711", metadata={"job_url": JOB, "branch": "main"}, ttl_seconds=600)
    async with browser_of(farm, api, Role.VIEWER) as browser:
        page = await browser.get(page_of(user))
        assert '<span class="state leased">leased</span>' in page.text
        assert "e2e #4711" in page.text
        assert {JOB, "/ui/leases?principal=runner-1"} <= read(page).links
        assert 590 < int(re.findall(r'data-next="(\d+)"', page.text)[0]) <= 602


async def test_the_fragment_is_the_content_and_keeps_its_text_while_nothing_changes(
    farm: Farm, api: httpx.AsyncClient
) -> None:
    user = await one_user(farm)
    await farm.release(await farm.acquire(user.pool))
    await farm.lock(user.id)
    await farm.services.user_statuses.quarantine(MANAGER, user.id, reason="odd", until=None)
    async with browser_of(farm, api, Role.MANAGER) as browser:
        fragment = await browser.get(page_of(user), headers=FRAGMENT)
        assert "<html" not in fragment.text
        assert fragment.text in (await browser.get(page_of(user))).text
        seen = {**FRAGMENT, "If-None-Match": fragment.headers["etag"]}
        assert (await browser.get(page_of(user), headers=seen)).status_code == 304
        ids = read(fragment).ids
        assert max(ids.values()) == 1
        assert {"standing", "holder", "facts", "history", "do-quarantine"} <= set(ids)
        assert len([each for each in ids if each.startswith(("lease-", "event-"))]) == 4


async def test_nothing_that_others_wrote_becomes_markup_or_a_script(
    farm: Farm, api: httpx.AsyncClient
) -> None:
    user = await one_user(farm)
    label = f'"{PROBE}'
    terms = {"owner": PROBE, "metadata": {"run": "javascript:alert(1)", PROBE: f'https://x.test/"{PROBE}'}}
    async with browser_of(farm, api, Role.MANAGER) as browser:
        page = await browser.get(page_of(user))
        for changed in (
            await submit(browser, page, "/labels", label=f"{label}:{PROBE}"),
            await browser.post(
                f"{page_of(user)}/quarantine",
                data={"seen": (await farm.seen(user.id)).version, "reason": PROBE},
            ),
            await browser.post(
                f"{page_of(user)}/restore", data={"seen": (await farm.seen(user.id)).version, "note": PROBE}
            ),
        ):
            assert changed.status_code == 303
        lease = (await farm.lock(user.id, **terms)).lease
        await farm.services.leases.force_release(MANAGER, lease.id, reason=PROBE)
        await farm.lock(user.id, **terms)
        refused = await submit(browser, page, "/retire", reason=PROBE)
        assert refused.status_code == 409
        for shown in (await browser.get(page_of(user)), await browser.get(f"/ui/leases/{lease.id}"), refused):
            content = read(shown)
            assert "img" not in content.tags
            assert not [link for link in content.links if not link.startswith(("/ui/", "https://x.test/"))]
            assert "&lt;img src=x&gt;" in shown.text
        unknown = await browser.get(f"{page_of(user)}?did={PROBE}")
        assert unknown.status_code == 422
        assert PROBE not in unknown.text


async def test_the_history_has_pages_of_twenty(farm: Farm, api: httpx.AsyncClient) -> None:
    user = await one_user(farm)
    for number in range(22):
        lease = (await farm.lock(user.id, owner=f"job {number}.")).lease
        await farm.release(lease, Outcome.BROKEN if number == 21 else Outcome.OK, None)
    async with browser_of(farm, api, Role.VIEWER) as browser:
        first = await browser.get(page_of(user))
        assert [f"job {number}." in first.text for number in (21, 2, 1)] == [True, True, False]
        assert '<span class="state broken">broken</span>' in first.text
        (following,) = [link for link in read(first).links if "cursor=" in link]
        second = await browser.get(following)
        assert [f"job {number}." in second.text for number in (2, 1, 0)] == [False, True, True]
        assert "added" in second.text
        assert {f"{page_of(user)}?"} <= read(second).links


async def test_a_quarantine_has_a_reason_and_an_end_and_stands_in_the_persons_name(
    farm: Farm, api: httpx.AsyncClient
) -> None:
    user = await one_user(farm)
    async with browser_of(farm, api, Role.MANAGER, name="ann") as ann:
        page = await ann.get(page_of(user))
        assert (await submit(ann, page, "/quarantine")).status_code == 422
        done = await followed(ann, await submit(ann, page, "/quarantine", reason="locked", lasts="28800"))
        assert "Quarantined: no test gets it" in done.text
        changed = await farm.seen(user.id)
        assert (changed.status_reason, changed.status_by) == ("locked", "operator:ann")
        assert changed.status_until is not None
        assert changed.status_since is not None
        assert (changed.status_until - changed.status_since).total_seconds() == pytest.approx(
            8 * 3600, abs=60
        )
        assert 'name="reason" value="locked"' in done.text
        again = await followed(ann, await submit(ann, done, "/quarantine", reason="still locked"))
        assert "somebody restores it" in again.text
    assert (await farm.seen(user.id)).status_until is None
    assert await audited(farm, user, "quarantine_user") == ["operator:ann"] * 2


@pytest.mark.parametrize(
    ("cleaning", "clean", "status"),
    [
        ("off", "", UserStatus.ACTIVE),
        ("off", "yes", UserStatus.DIRTY),
        ("required", "", UserStatus.DIRTY),
        ("required", "no", UserStatus.ACTIVE),
    ],
)
async def test_a_restored_user_waits_for_a_keeper_as_the_person_or_the_policy_says(
    farm: Farm, api: httpx.AsyncClient, cleaning: str, clean: str, status: UserStatus
) -> None:
    user = await one_user(farm, cleaning=cleaning)
    await farm.services.user_statuses.quarantine(MANAGER, user.id, reason="odd", until=None)
    async with browser_of(farm, api, Role.MANAGER) as browser:
        page = await browser.get(page_of(user))
        told = "after a keeper" if cleaning == "required" else "at once"
        assert f"as the project&#39;s policy says: {told}" in page.text.replace("'", "&#39;")
        done = await followed(browser, await submit(browser, page, "/restore", clean=clean, note="solved"))
        assert "Restored." in done.text
    assert (await farm.seen(user.id)).status is status
    assert await audited(farm, user, "restore_user") == ["operator:manager"]


async def test_labels_are_set_and_removed_one_by_one(farm: Farm, api: httpx.AsyncClient) -> None:
    user = await farm.user(await farm.pool(0), team="blue", plan="gold")
    async with browser_of(farm, api, Role.MANAGER) as browser:
        page = await browser.get(page_of(user))
        page = await followed(browser, await submit(browser, page, "/labels", label="team:red: dark"))
        assert (await farm.seen(user.id)).labels == {"team": "red: dark", "plan": "gold"}
        page = await followed(browser, await submit(browser, page, "/labels", label="", remove="plan"))
        assert (await farm.seen(user.id)).labels == {"team": "red: dark"}
        for wrong in ({"label": "no colon"}, {"label": ""}, {"label": f"{'k' * 64}:v"}):
            refused = await submit(browser, page, "/labels", **wrong)
            assert refused.status_code == 422
            assert wrong["label"] == "" or wrong["label"] not in refused.text
    assert await audited(farm, user, "update_user") == ["operator:manager"] * 2


async def test_a_user_is_retired_and_deleted(farm: Farm, api: httpx.AsyncClient) -> None:
    user = await one_user(farm)
    project = await farm.services.projects.get(EVERYTHING, user.pool.project_id)
    async with browser_of(farm, api, Role.MANAGER) as browser:
        page = await browser.get(page_of(user))
        page = await followed(browser, await submit(browser, page, "/retire", reason="its phone is gone"))
        assert (await farm.seen(user.id)).status is UserStatus.RETIRED
        for word in ("its phone is gone", "Hold: the user is retired", "Restore: the user is retired"):
            assert word in page.text
        gone = await submit(browser, page, "/delete")
        assert gone.headers["location"] == f"/ui/users?project={project.name}&env=stage&domain=regular"
        assert (await browser.get(page_of(user))).status_code == 404
    with pytest.raises(NoSuchUserError):
        await farm.seen(user.id)
    assert await audited(farm, user, "retire_user") == ["operator:manager"]
    assert await audited(farm, user, "delete_user") == ["operator:manager"]


async def test_a_hold_lasts_as_long_as_the_project_allows(farm: Farm, api: httpx.AsyncClient) -> None:
    user = await one_user(farm, max_hold=7_200)
    async with browser_of(farm, api, Role.MANAGER) as browser:
        page = await browser.get(page_of(user))
        choices = page.text.partition(f'action="{page_of(user)}/hold"')[2].partition("</select>")[0]
        assert re.findall(r'<option value="(\d+)"', choices) == ["900", "3600", "7200"]
        held = await followed(browser, await submit(browser, page, "/hold", lasts="7200", note="SHOP-17"))
        assert '<span class="state held">held</span>' in held.text
        assert "<q>SHOP-17</q>" in held.text
    lease = (await farm.seen(user.id)).last_lease
    assert lease is not None
    assert (lease.principal, lease.purpose, lease.ttl_seconds) == ("operator:manager", Purpose.HOLD, 7_200)


@pytest.mark.parametrize("action", ["quarantine", "restore", "retire", "labels", "delete"])
async def test_the_second_of_two_people_is_told_what_the_first_has_done(
    farm: Farm, api: httpx.AsyncClient, action: str
) -> None:
    user = await one_user(farm)
    await farm.services.user_statuses.quarantine(MANAGER, user.id, reason="odd", until=None)
    async with (
        browser_of(farm, api, Role.MANAGER, name="ann") as ann,
        browser_of(farm, api, Role.MANAGER, name="bob") as bob,
    ):
        page = await bob.get(page_of(user))
        first = await submit(
            ann, await ann.get(page_of(user)), "/quarantine", reason="evidence, do not touch"
        )
        assert first.status_code == 303
        before = await farm.seen(user.id)
        told = await submit(bob, page, f"/{action}", **ACTIONS[action])
        assert told.status_code == 409
        assert "It has changed since this page was made, so nothing was done." in told.text
        for word in ("evidence, do not touch", "operator:ann", f'href="{page_of(user)}"'):
            assert word in told.text
        assert await farm.seen(user.id) == before
        fresh = await bob.get(page_of(user))
        assert (await submit(bob, fresh, f"/{action}", **ACTIONS[action])).status_code == 303


async def test_a_change_that_waits_for_another_one_notices_it(farm: Farm, api: httpx.AsyncClient) -> None:
    user = await one_user(farm)
    async with browser_of(farm, api, Role.MANAGER) as browser:
        page = await browser.get(page_of(user))
        async with farm.sql.transaction():
            await farm.sql.execute(
                """UPDATE users SET status = 'quarantined', status_reason = 'faster', status_by = 'operator:ann',
                   status_since = clock_timestamp() WHERE id = $1""",
                user.id,
            )
            retiring = asyncio.create_task(submit(browser, page, "/retire", reason="slower"))
            await farm.until_blocked()
        told = await retiring
    assert told.status_code == 409
    assert "faster" in told.text
    assert (await farm.seen(user.id)).status is UserStatus.QUARANTINED


async def test_a_lease_in_between_disturbs_nobody(farm: Farm, api: httpx.AsyncClient) -> None:
    user = await one_user(farm)
    async with browser_of(farm, api, Role.MANAGER) as browser:
        page = await browser.get(page_of(user))
        await farm.lock(user.id)
        done = await followed(browser, await submit(browser, page, "/quarantine", reason="locked"))
        assert "quarantined" in done.text
        busy = await submit(browser, page, "/hold", lasts="900")
        assert busy.status_code == 409
        assert "runner-1" in busy.text
        assert (await submit(browser, done, "/labels", label="team:red")).status_code == 303
    assert (await farm.seen(user.id)).locktime is not None


async def test_a_manager_ends_a_lease_from_the_page_of_its_user(farm: Farm, api: httpx.AsyncClient) -> None:
    user = await one_user(farm)
    lease = (await farm.lock(user.id)).lease
    async with browser_of(farm, api, Role.MANAGER) as browser:
        page = await browser.get(page_of(user))
        done = await submit(browser, page, "/force-release", **FORCED)
        assert done.headers["location"] == f"{page_of(user)}?did=forced"
        page = await followed(browser, done)
        assert "<p>Nobody.</p>" in page.text
        assert "<q>its runner is gone</q>" in page.text
    row = await farm.sql.fetchrow("SELECT * FROM audit WHERE action = 'force_release_lease'")
    assert (row["principal"], row["target_id"]) == ("operator:manager", str(lease.id))


async def test_forms_of_another_site_change_nothing(farm: Farm, api: httpx.AsyncClient) -> None:
    user = await one_user(farm)
    async with browser_of(farm, api, Role.ADMIN) as browser:
        for action, fields in ACTIONS.items():
            refused = await browser.post(
                f"{page_of(user)}/{action}",
                data={"seen": user.version, **fields},
                headers={"Sec-Fetch-Site": "cross-site"},
            )
            assert refused.status_code == 403
            assert "A page of another site asked for this" in refused.text
    assert (await farm.seen(user.id)).state is UserState.FREE


async def test_a_user_outside_of_the_scope_does_not_exist(farm: Farm, api: httpx.AsyncClient) -> None:
    user = await one_user(farm)
    lease = (await farm.lock(user.id)).lease
    prod = Scope(None, frozenset({"prod"}))
    async with browser_of(farm, api, Role.MANAGER, scope=prod) as browser:
        for address in (page_of(user), f"/ui/users/{uuid4()}", f"/ui/leases/{lease.id}", "/ui/users/x"):
            assert (await browser.get(address)).status_code == 404, address
        for action, fields in ACTIONS.items():
            answer = await browser.post(f"{page_of(user)}/{action}", data={"seen": user.version, **fields})
            assert answer.status_code == 404, action
        assert (await browser.post(f"/ui/leases/{lease.id}/force-release", data=FORCED)).status_code == 404
    assert (await farm.seen(user.id)).version == user.version


async def test_every_state_has_its_word_and_what_it_waits_for(farm: Farm, api: httpx.AsyncClient) -> None:
    resting = await farm.user(await farm.pool(0, cooldown=600))
    await farm.release((await farm.lock(resting.id)).lease)
    dirty = await one_user(farm, cleaning="on_dirty")
    await farm.release((await farm.lock(dirty.id)).lease, Outcome.DIRTY, Reason.DATA)
    chore = await one_user(farm, cleaning="required")
    await farm.release((await farm.lock(chore.id)).lease)
    await farm.chore(chore.pool)
    failing = await one_user(farm, quarantine_after=1)
    await farm.release((await farm.lock(failing.id)).lease, Outcome.BROKEN, Reason.CAPTCHA)
    leased = await one_user(farm)
    await farm.lock(leased.id)
    await farm.services.user_statuses.retire(MANAGER, leased.id, reason="old")
    expected = [
        (resting, "resting", "A test may have it again"),
        (dirty, "dirty", "It waits for a keeper."),
        (chore, "chore", "keeper"),
        (failing, "quarantined", "the policy of its project"),
        (leased, "retired", "For good."),
    ]
    async with browser_of(farm, api, Role.VIEWER) as browser:
        for user, state, words in expected:
            page = (await browser.get(page_of(user))).text
            assert f'<span class="state {state}">{state}</span>' in page
            assert words in page


async def test_a_user_that_is_quarantined_by_time_says_when_it_comes_back(
    farm: Farm, api: httpx.AsyncClient
) -> None:
    user = await one_user(farm)
    async with browser_of(farm, api, Role.MANAGER) as browser:
        page = await browser.get(page_of(user))
        page = await followed(browser, await submit(browser, page, "/quarantine", reason="odd", lasts="3600"))
        assert 3_590 < int(re.findall(r'data-next="(\d+)"', page.text)[0]) <= 3_602
