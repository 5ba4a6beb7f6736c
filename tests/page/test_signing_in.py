"""Signing in and out, also where scripts are off."""

import re

import pytest
from playwright.async_api import expect

from support.browser import Visit, Watcher
from support.farm import PASSWORD
from support.page_stock import PageFarm

SCRIPTS = pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])


@SCRIPTS
async def test_a_person_signs_in_comes_where_the_link_led_and_signs_out(scripts: bool, visit: Visit) -> None:
    page = await visit(None, "/ui/users?state=quarantined", java_script_enabled=scripts)
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    await page.get_by_label("Name").fill("manager")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page).to_have_url(re.compile(r"/ui/users\?state=quarantined$"))
    await expect(page.get_by_text("manager, role manager")).to_be_visible()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    await page.goto("/ui/pools")
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


@SCRIPTS
async def test_a_wrong_password_is_told_and_the_name_stays(
    scripts: bool, visit: Visit, watcher: Watcher
) -> None:
    watcher.allow("status of 401")
    page = await visit(None, "/ui/sign-in", java_script_enabled=scripts)
    await page.get_by_label("Name").fill("viewer")
    await page.get_by_label("Password").fill("not the password")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_be_visible()
    await expect(page.get_by_label("Name")).to_have_value("viewer")
    await expect(page.get_by_label("Password")).to_be_empty()


async def test_signing_in_never_leads_to_another_site(visit: Visit) -> None:
    page = await visit(None, "/ui/sign-in?next=//evil.test/")
    await page.get_by_label("Name").fill("viewer")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(re.compile(r"/ui/pools$"))


async def test_a_link_on_another_site_needs_no_second_sign_in(
    stocked: PageFarm, visit: Visit, watcher: Watcher
) -> None:
    """The browser keeps the cookie back at first, because the session's cookie is strict."""
    watcher.allow(r"http://ci\.test/")
    page = await visit("viewer", "/ui/pools")
    log = f'<a href="{stocked.url}/ui/waiting?project=shop">the farm</a>'
    await page.route("http://ci.test/", lambda route: route.fulfill(body=log, content_type="text/html"))
    await page.goto("http://ci.test/")
    await page.get_by_role("link").click()
    await expect(page.get_by_role("heading", name="Waiting")).to_be_visible()
    await expect(page).to_have_url(f"{stocked.url}/ui/waiting?project=shop")
