"""An open page follows what happens, and nothing that a person reads or uses moves."""

import pytest
from playwright.async_api import Locator, Page, expect

from support.browser import Visit, Watcher, quarantine
from support.buffering_proxy import buffering_proxy
from support.live_farm import LiveFarm, free_port
from support.page_stock import PageFarm, serving_pages, sign_in

SOON = 3_500
"""Milliseconds. The farm looks once a second, and a page fetches once in two. No page polls so soon."""
BY_POLLING = 40_000


def pool(page: Page, project: str) -> Locator:
    """The row of a project's pool on the board."""
    return page.get_by_role("row", name=f"{project}/")


def count(page: Page, project: str, state: str) -> Locator:
    return pool(page, project).locator(f'[data-label="{state}"]')


def take_out(farm: LiveFarm, project: str) -> None:
    """Takes a user out of service."""
    [user, *_] = farm.get("/users", project_id=farm.project_id(project), state="free")["items"]
    farm._post(f"/users/{user['id']}/quarantine", {"reason": "to see"})


async def test_what_one_person_does_another_sees_soon(stocked: PageFarm, visit: Visit) -> None:
    """Each in a browser."""
    project = stocked.live.project(users=2)
    [user, _] = stocked.live.get("/users", project_id=stocked.live.project_id(project))["items"]
    acting, page = await visit("manager", f"/ui/users/{user['id']}"), await visit("viewer", "/ui/pools")
    await expect(count(page, project, "quarantined")).to_be_empty()
    await quarantine(acting, "a captcha")
    await expect(count(page, project, "quarantined")).to_have_text("1", timeout=SOON)
    await expect(count(page, project, "free")).to_have_text("1")


async def test_a_pool_that_is_new_comes_to_the_board(stocked: PageFarm, visit: Visit) -> None:
    page = await visit("viewer", "/ui/pools")
    await expect(page.get_by_role("heading", name="Pools")).to_be_visible()
    project = stocked.live.project(users=1)
    await expect(pool(page, project)).to_be_visible(timeout=SOON)


async def test_a_row_with_the_focus_stays_as_it_is_until_the_focus_has_left(
    stocked: PageFarm, visit: Visit
) -> None:
    read, other = stocked.live.project(users=2), stocked.live.project(users=2)
    page = await visit("viewer", "/ui/pools")
    await pool(page, read).get_by_role("rowheader").get_by_role("link").focus()
    take_out(stocked.live, read)
    take_out(stocked.live, other)
    await expect(count(page, other, "quarantined")).to_have_text("1", timeout=SOON)
    await expect(count(page, read, "quarantined")).to_be_empty()
    await page.get_by_role("link", name="Leases").focus()
    take_out(stocked.live, other)
    await expect(count(page, read, "quarantined")).to_have_text("1", timeout=SOON)


@pytest.mark.parametrize("passes_head", [True, False], ids=["after the head", "from the start"])
async def test_a_page_polls_behind_a_proxy_that_buffers(
    passes_head: bool, stocked: PageFarm, visit: Visit
) -> None:
    project = stocked.live.project(users=1)
    async with buffering_proxy(stocked.url, passes_head=passes_head) as url:
        page = await visit("viewer", "/ui/pools", url=url)
        await expect(count(page, project, "quarantined")).to_be_empty()
        take_out(stocked.live, project)
        await expect(count(page, project, "quarantined")).to_have_text("1", timeout=BY_POLLING)


async def test_a_page_finds_a_farm_again_that_was_restarted(
    stocked: PageFarm, visit: Visit, watcher: Watcher
) -> None:
    """By a replica of its own, on the same database."""
    watcher.allow("net::ERR_")
    project, port = stocked.live.project(users=2), free_port()
    with serving_pages(stocked.database_url, port=port) as (replica, url):
        page = await visit("viewer", "/ui/pools", url=url)
        take_out(stocked.live, project)
        await expect(count(page, project, "quarantined")).to_have_text("1", timeout=SOON)
        replica.terminate()
        assert replica.wait() == 0
    await expect(count(page, project, "quarantined")).to_have_text("1")
    take_out(stocked.live, project)
    with serving_pages(stocked.database_url, port=port):
        await expect(count(page, project, "quarantined")).to_have_text("2", timeout=15_000)


async def test_a_long_list_tells_of_new_users_and_does_not_move(stocked: PageFarm, visit: Visit) -> None:
    project = stocked.live.project(users=2)
    page = await visit("viewer", f"/ui/users?project={project}")
    rows = page.locator("#users tbody tr")
    await expect(rows).to_have_count(2)
    take_out(stocked.live, project)
    stocked.live.user(stocked.live.project_id(project), login=f"new@{project}.test")
    await expect(page.get_by_role("status")).to_contain_text("1 change", timeout=SOON)
    await expect(rows.filter(has_text="quarantined")).to_have_count(1)
    await expect(rows).to_have_count(2)
    await page.get_by_role("link", name="refresh").click()
    await expect(rows).to_have_count(3)


async def test_a_form_that_is_filled_in_stays_while_the_rest_of_the_page_changes(
    stocked: PageFarm, visit: Visit
) -> None:
    project = stocked.live.project(users=1)
    [user] = stocked.live.get("/users", project_id=stocked.live.project_id(project))["items"]
    page = await visit("manager", f"/ui/users/{user['id']}")
    await page.locator("summary").get_by_text("Retire", exact=True).click()
    reason = page.locator("#do-retire").get_by_role("textbox", name="Reason")
    await reason.fill("its phone number")
    take_out(stocked.live, project)
    await expect(page.locator("#standing")).to_contain_text("quarantined", timeout=SOON)
    await expect(reason).to_be_focused()
    await expect(reason).to_have_value("its phone number")


async def test_a_page_whose_session_ends_leads_to_the_sign_in_and_back(
    stocked: PageFarm, visit: Visit, watcher: Watcher
) -> None:
    watcher.allow("status of 401")
    page = await visit(None, "/ui/sign-in?next=/ui/waiting")
    await page.context.add_cookies([await sign_in(stocked.url, "viewer")])
    await page.goto("/ui/waiting")
    await page.context.request.post("/api/v1/auth/logout")
    await expect(page).to_have_url(f"{stocked.url}/ui/sign-in?next=%2Fui%2Fwaiting", timeout=BY_POLLING)
