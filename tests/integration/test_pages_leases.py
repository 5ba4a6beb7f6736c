"""The pages of leases, and a holder's own hold."""

import json
from typing import Any
from uuid import uuid4

import httpx
import pytest

from botfarm.domain.access import EVERYTHING, Role, Scope
from botfarm.domain.leases import Lease
from botfarm.domain.pools import Pool
from botfarm.domain.users import User
from support.code_clock import CodeClock
from support.farm import MANAGER, PASSWORD, RUNNER, Farm
from support.pages import FRAGMENT, browser_of, followed, read, submit

JOB = "https://ci.test/acme/shop/runs/4711"
SEED = "JBSWY3DPEHPK3PXP"
SECRET = "a canary 40961"
FORCED = {"reason": "its runner is gone"}


async def name_of(farm: Farm, pool: Pool) -> str:
    return (await farm.services.projects.get(EVERYTHING, pool.project_id)).name


async def with_credentials(farm: Farm) -> User:
    return await farm.services.users.create(
        MANAGER,
        login=f"user-{uuid4().hex}@shop.test",
        password=PASSWORD,
        pool=await farm.pool(0, lock_delay=0, max_hold=7_200),
        labels={},
        secrets={"api_key": SECRET},
        totp_seed=SEED,
    )


async def held_by(browser: httpx.AsyncClient, user: User) -> httpx.Response:
    """The page of the user, after the person has taken it."""
    page = await browser.get(f"/ui/users/{user.id}")
    return await followed(browser, await submit(browser, page, "/hold", lasts="900", note="SHOP-17"))


async def lease_of(farm: Farm, user: User) -> Lease:
    lease = (await farm.seen(user.id)).last_lease
    assert lease is not None
    return lease


async def audited(farm: Farm, action: str) -> list[tuple[str, str]]:
    rows = await farm.sql.fetch(
        "SELECT principal, target_id, details FROM audit WHERE action = $1 ORDER BY id", action
    )
    assert SECRET not in json.dumps([row["details"] for row in rows])
    return [(row["principal"], row["target_id"]) for row in rows]


@pytest.mark.parametrize("role", Role)
async def test_every_role_sees_leases_and_managers_may_end_them(
    farm: Farm, api: httpx.AsyncClient, role: Role
) -> None:
    pool = await farm.pool(1)
    lease = await farm.acquire(pool, owner="e2e #4711", metadata={"job_url": JOB, "branch": "main"})
    path = f"/ui/leases/{lease.id}"
    async with browser_of(farm, api, role) as browser:
        listed, page = await browser.get("/ui/leases"), await browser.get(path)
        for shown in (listed, page):
            assert shown.status_code == 200
            assert {JOB, f"/ui/users/{lease.users[0].id}"} <= read(shown).links
            assert "e2e #4711" in shown.text
        assert "<dt>branch</dt><dd>main</dd>" in page.text
        may = role.includes(Role.MANAGER)
        assert (f"{path}#end" in read(listed).links) == may
        assert (f"{path}/force-release" in read(page).forms) == may
        if not may:
            assert "needs the role manager" in page.text
            assert (await browser.post(f"{path}/force-release", data=FORCED)).status_code == 403
            assert (await farm.services.leases.look_up(EVERYTHING, lease.id)).is_live


async def test_a_list_is_chosen_by_its_address(farm: Farm, api: httpx.AsyncClient) -> None:
    pool = await farm.pool(2)
    other = await farm.pool(1)
    ended = await farm.release(await farm.acquire(pool, owner="first run"))
    live = await farm.acquire(pool, owner="second run", labels={})
    user = await farm.user(Pool(other.project_id, "prod", "canary"))
    await farm.lock(user.id, owner="third run")
    async with browser_of(farm, api, Role.MANAGER) as browser:
        await held_by(browser, await farm.user(other))

        async def rows(query: str) -> set[str]:
            page = await browser.get(f"/ui/leases?{query}")
            assert page.status_code == 200, page.text
            ids = {each.removeprefix("lease-") for each in read(page).ids if each.startswith("lease-")}
            owners = await farm.sql.fetch(
                "SELECT coalesce(owner, purpose) FROM leases WHERE id = ANY ($1::uuid[])", list(ids)
            )
            return {row[0] for row in owners}

        assert await rows("") == {"first run", "second run", "third run", "hold"}
        assert await rows("state=ended") == {"first run"}
        assert await rows(f"project={await name_of(farm, pool)}&env=&state=") == {"first run", "second run"}
        assert await rows("env=prod&domain=canary") == {"third run"}
        assert await rows("purpose=hold&principal=operator:manager") == {"hold"}
        assert await rows("owner=second+run") == {"second run"}
        assert await rows(f"user={live.users[0].id}") >= {"second run"}
        assert await rows(f"user={user.login}") == {"third run"}
        assert await rows("owner=nobody") == set()
        for wrong, status in (
            ("state=odd", 422),
            ("usr=x", 422),
            ("cursor=x", 422),
            ("project=none", 404),
            ("user=nobody@shop.test", 404),
        ):
            assert (await browser.get(f"/ui/leases?{wrong}")).status_code == status, wrong
        assert "No lease matches" in (await browser.get("/ui/leases?owner=nobody")).text
    assert ended.ended_at is not None


async def test_a_login_of_several_pools_asks_for_the_project(farm: Farm, api: httpx.AsyncClient) -> None:
    first, second = await farm.pool(0), await farm.pool(0)
    for pool in (first, second):
        await farm.services.users.create(
            MANAGER, login="same@shop.test", password=PASSWORD, pool=pool, labels={}
        )
    async with browser_of(farm, api, Role.VIEWER) as browser:
        told = await browser.get("/ui/leases?user=same@shop.test")
        assert told.status_code == 422
        assert "choose project and env, too" in told.text
        chosen = f"user=same@shop.test&project={await name_of(farm, first)}"
        assert (await browser.get(f"/ui/leases?{chosen}")).status_code == 200


async def test_a_list_has_pages_that_keep_the_filter(
    farm: Farm, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botfarm.web.pages.lease_pages.LEASES", 2)
    pool = await farm.pool(1, lock_delay=0)
    leases = [await farm.release(await farm.acquire(pool, owner="a & b")) for _ in range(3)]
    await farm.acquire(pool)
    async with browser_of(farm, api, Role.VIEWER) as browser:
        first = await browser.get("/ui/leases?owner=a+%26+b")
        assert 'data-list="announce"' in first.text
        (following,) = [link for link in read(first).links if "cursor=" in link]
        second = await browser.get(following)
        seen = [each for page in (first, second) for each in read(page).ids if each.startswith("lease-")]
        assert seen == [f"lease-{lease.id}" for lease in reversed(leases)]
        assert "/ui/leases?owner=a+%26+b&" in read(second).links


async def test_fragments_are_the_content_and_keep_their_text(farm: Farm, api: httpx.AsyncClient) -> None:
    pool = await farm.pool(2)
    lease = await farm.acquire(pool, count=2, ttl_seconds=600)
    seen = {}
    async with browser_of(farm, api, Role.MANAGER) as browser:
        for address in ("/ui/leases", f"/ui/leases/{lease.id}"):
            fragment = await browser.get(address, headers=FRAGMENT)
            assert "<html" not in fragment.text
            assert fragment.text in (await browser.get(address)).text
            assert max(read(fragment).ids.values()) == 1
            assert 590 < int(fragment.headers["x-next-change"]) <= 602
            seen[address] = {**FRAGMENT, "If-None-Match": fragment.headers["etag"]}
        for status in (304, 200):
            for address, headers in seen.items():
                assert (await browser.get(address, headers=headers)).status_code == status
            await farm.services.leases.renew(RUNNER, lease.id, ttl_seconds=700)


async def test_a_forced_release_has_a_reason_and_the_second_person_is_told(
    farm: Farm, api: httpx.AsyncClient
) -> None:
    lease = await farm.acquire(await farm.pool(1))
    path = f"/ui/leases/{lease.id}"
    async with (
        browser_of(farm, api, Role.MANAGER, name="ann") as ann,
        browser_of(farm, api, Role.MANAGER, name="bob") as bob,
    ):
        page = await ann.get(path)
        assert (await submit(ann, page, "/force-release")).status_code == 422
        cross = await bob.post(f"{path}/force-release", data=FORCED, headers={"Sec-Fetch-Site": "cross-site"})
        assert cross.status_code == 403
        done = await followed(ann, await submit(ann, page, "/force-release", **FORCED))
        assert "The lease has ended." in done.text
        assert read(done).forms == {}
        told = await submit(bob, page, "/force-release", reason="no, mine")
        assert told.status_code == 409
        assert "The lease had ended before, so nothing was done." in told.text
        assert "<q>its runner is gone</q>" in told.text
        assert path in read(told).links
    assert await audited(farm, "force_release_lease") == [("operator:ann", str(lease.id))]
    assert (await farm.services.leases.look_up(EVERYTHING, lease.id)).note == FORCED["reason"]


async def test_a_lease_that_its_holder_released_meanwhile_stays_released(
    farm: Farm, api: httpx.AsyncClient
) -> None:
    lease = await farm.acquire(await farm.pool(1))
    async with browser_of(farm, api, Role.MANAGER) as browser:
        page = await browser.get(f"/ui/leases/{lease.id}")
        await farm.release(lease)
        told = await submit(browser, page, "/force-release", **FORCED)
    assert told.status_code == 409
    assert '<span class="state ok">ok</span>' in told.text
    assert await audited(farm, "force_release_lease") == []


async def test_a_person_sees_the_password_of_the_own_hold_and_the_audit_says_so(
    farm: Farm, api: httpx.AsyncClient
) -> None:
    user = await with_credentials(farm)
    async with browser_of(farm, api, Role.MANAGER, name="ann") as ann:
        page = await held_by(ann, user)
        lease = await lease_of(farm, user)
        assert PASSWORD not in page.text
        assert await audited(farm, "get_lease") == []
        shown = await submit(ann, page, "/reveal")
        assert shown.status_code == 200
        assert shown.headers["cache-control"] == "no-store"
        assert f'<code id="password-1">{PASSWORD}</code>' in shown.text
        assert "api_key" in shown.text
        assert SECRET not in shown.text
        assert SEED not in shown.text
        assert f"/ui/users/{user.id}" in read(shown).links
        assert await audited(farm, "get_lease") == [("operator:ann", str(lease.id))]
        assert (await ann.get(f"/ui/leases/{lease.id}/reveal")).status_code == 404


async def test_a_one_time_code_is_shown_on_demand_and_no_code_twice(
    farm: Farm, api: httpx.AsyncClient, code_clock: CodeClock
) -> None:
    user = await with_credentials(farm)
    async with browser_of(farm, api, Role.MANAGER) as browser:
        page = await submit(browser, await held_by(browser, user), "/reveal")
        codes = []
        for _ in range(2):
            page = await submit(browser, page, "/code")
            codes.append(page.text.partition('<code id="code-1">')[2][:6])
            assert PASSWORD not in page.text
        assert len(set(codes)) == 2
        assert all(code.isdigit() for code in codes)
        assert code_clock.pauses
        assert PASSWORD in (await submit(browser, page, "/reveal")).text
    (principal, _), _ = await audited(farm, "get_totp")
    assert principal == "operator:manager"


async def test_a_hold_is_renewed_and_released_by_its_holder(farm: Farm, api: httpx.AsyncClient) -> None:
    user = await with_credentials(farm)
    async with browser_of(farm, api, Role.MANAGER) as browser:
        page = await held_by(browser, user)
        lease = await lease_of(farm, user)
        renewed = await submit(browser, page, "/renew")
        assert renewed.headers["location"] == f"/ui/users/{user.id}?did=renewed"
        assert (await lease_of(farm, user)).expires_at > lease.expires_at
        own = await browser.get(f"/ui/leases/{lease.id}")
        done = await followed(
            browser, await submit(browser, own, "/release", outcome="dirty", note="the cart is full")
        )
        assert done.url.path == f"/ui/leases/{lease.id}"
        assert "<q>the cart is full</q>" in done.text
        assert (await submit(browser, own, "/release")).status_code == 303, "once more is the same as once"
        for action in ("/renew", "/reveal"):
            late = await submit(browser, page, action)
            assert late.status_code == 410
            assert PASSWORD not in late.text
    assert (await farm.seen(user.id)).locktime is None


@pytest.mark.parametrize("action", ["reveal", "code", "renew", "release"])
async def test_what_is_no_own_hold_shows_nothing_and_stays(
    farm: Farm, api: httpx.AsyncClient, action: str
) -> None:
    user, tested = await with_credentials(farm), await with_credentials(farm)
    async with (
        browser_of(farm, api, Role.MANAGER, name="ann") as ann,
        browser_of(farm, api, Role.ADMIN, name="bob") as bob,
    ):
        await held_by(ann, user)
        test = {"project_id": str(tested.pool.project_id), "env": "stage"}
        taken = await bob.post("/api/v1/leases", json=test)
        assert taken.status_code == 201, taken.text
        reading = await audited(farm, "get_lease")
        for of_user in (user, tested):
            lease = await lease_of(farm, of_user)
            path = f"/ui/leases/{lease.id}"
            address = f"{path}/users/{of_user.id}/code" if action == "code" else f"{path}/{action}"
            for page in (await bob.get(path), await bob.get(f"/ui/users/{of_user.id}")):
                assert address not in read(page).forms
                assert PASSWORD not in page.text
            refused = await bob.post(address)
            assert refused.status_code == 403
            assert "This page is for your own holds only." in refused.text
            cross = await ann.post(address, headers={"Sec-Fetch-Site": "cross-site"})
            assert cross.status_code == 403
            assert "A page of another site" in cross.text
            after = await lease_of(farm, of_user)
            assert (after.is_live, after.expires_at) == (True, lease.expires_at)
    assert await audited(farm, "get_lease") == reading


async def test_no_page_but_the_revealed_hold_has_a_credential(farm: Farm, api: httpx.AsyncClient) -> None:
    user = await with_credentials(farm)
    async with browser_of(farm, api, Role.ADMIN) as browser:
        page = await held_by(browser, user)
        lease = await lease_of(farm, user)
        stale = await submit(browser, page, "/quarantine", reason="odd")
        shown = [
            page,
            await followed(browser, stale),
            await submit(browser, page, "/retire", reason="late"),
            await browser.get("/ui/leases"),
            await browser.get(f"/ui/leases/{lease.id}"),
            await followed(browser, await submit(browser, page, "/renew")),
            await followed(browser, await submit(browser, page, "/release")),
        ]
        for each in shown:
            for secret in (PASSWORD, SECRET, SEED, "api_key"):
                assert secret not in each.text
        assert "<dt>Secrets</dt><dd>stored</dd>" in page.text
        assert "<dt>One-time codes</dt><dd>yes</dd>" in page.text


async def test_nothing_that_others_wrote_becomes_markup_or_a_script(
    farm: Farm, api: httpx.AsyncClient
) -> None:
    probe: dict[str, Any] = {"owner": "<img src=x>", "metadata": {"<img>": "<img>", "run": "javascript:x"}}
    user = await farm.user(await farm.pool(0), **{"<img>": '"><img>'})
    lease = (await farm.lock(user.id, **probe)).lease
    async with browser_of(farm, api, Role.MANAGER) as browser:
        for address in ("/ui/leases", f"/ui/leases/{lease.id}", "/ui/leases?owner=%22%3E%3Cimg%3E"):
            page = await browser.get(address)
            assert "img" not in read(page).tags
            assert "&lt;img" in page.text
            assert all(link.startswith("/ui/") for link in read(page).links)


async def test_leases_outside_of_the_scope_are_not_listed(farm: Farm, api: httpx.AsyncClient) -> None:
    lease = await farm.acquire(await farm.pool(1), owner="not yours")
    prod = Scope(None, frozenset({"prod"}))
    async with browser_of(farm, api, Role.ADMIN, scope=prod) as browser:
        page = await browser.get(f"/ui/leases?user={lease.users[0].id}")
        assert page.status_code == 200
        assert "not yours" not in page.text
        assert "No lease matches" in page.text
