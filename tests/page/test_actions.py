"""What people do on the pages, with scripts and without."""

import pytest
from playwright.async_api import expect

from support.browser import Visit, Watcher, press, quarantine, unfold
from support.page_stock import PageFarm

WRONG_FILE = b"""login,password,env,domain
new@shop.test,a long password,stage,regular
nobody,a long password,stage,regular
"""
RIGHT_FILE = WRONG_FILE.replace(b"nobody,", b"newer@shop.test,")


@pytest.fixture(params=[True, False], ids=["with scripts", "without scripts"])
def scripts(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def user(stocked: PageFarm) -> str:
    """The path of a user that no other test has."""
    project = stocked.live.project(users=1)
    [one] = stocked.live.get("/users", project_id=stocked.live.project_id(project))["items"]
    return f"/ui/users/{one['id']}"


async def test_a_manager_quarantines_and_restores_a_user(scripts: bool, user: str, visit: Visit) -> None:
    page = await visit("manager", user, java_script_enabled=scripts)
    await quarantine(page, "a captcha since noon")
    standing = page.locator("#standing")
    await expect(standing).to_contain_text("quarantined")
    await expect(standing).to_contain_text("a captcha since noon")
    await expect(standing).to_contain_text("operator:manager")
    await unfold(page, "Restore")
    await press(page, "Restore")
    await expect(standing).to_contain_text("free")
    await expect(page.locator("#history")).to_contain_text("a captcha since noon")


async def test_the_second_of_two_people_is_told_what_has_become_of_the_user(
    user: str, visit: Visit, watcher: Watcher
) -> None:
    watcher.allow("status of 409")
    first, second = await visit("manager", user), await visit("admin", user)
    await unfold(second, "Retire")
    await second.get_by_role("textbox", name="Reason").fill("not needed")
    await quarantine(first, "a captcha")
    await expect(first.locator("#standing")).to_contain_text("quarantined")
    await press(second, "Retire")
    await expect(second.get_by_role("alert")).to_be_visible()
    await expect(second.locator("main")).to_contain_text("a captcha")
    await second.goto(user)
    await expect(second.locator("#standing")).to_contain_text("quarantined")


async def test_a_person_holds_a_user_sees_its_password_and_gives_it_back(
    scripts: bool, user: str, visit: Visit
) -> None:
    page = await visit("manager", user, java_script_enabled=scripts)
    await unfold(page, "Hold")
    await page.get_by_role("textbox", name="Note").fill("I look into it")
    await press(page, "Hold")
    await press(page, "Show the password")
    await expect(page.get_by_text("correct horse battery staple")).to_be_visible()
    await page.get_by_role("link", name="Back", exact=True).click()
    await unfold(page, "Release")
    await press(page, "Release")
    await expect(page.locator("#holder, #end").first).not_to_contain_text("operator:manager")


async def test_a_manager_ends_the_lease_of_somebody_else(
    scripts: bool, stocked: PageFarm, visit: Visit
) -> None:
    lease = stocked.live.take(stocked.live.project(users=1))
    page = await visit("manager", f"/ui/leases/{lease['id']}", java_script_enabled=scripts)
    await unfold(page, "Force release")
    await page.get_by_role("textbox", name="Reason").fill("its runner is gone")
    await press(page, "Force release")
    await expect(page.locator("#lease")).to_contain_text("forced")


async def test_many_users_are_changed_once_their_number_is_known(
    scripts: bool, stocked: PageFarm, visit: Visit
) -> None:
    project = stocked.live.project(users=3)
    stocked.live.take(project)
    page = await visit("manager", f"/ui/users?project={project}", java_script_enabled=scripts)
    await unfold(page, "Change many users")
    await page.get_by_label("all that match the filter").check()
    await page.get_by_role("combobox", name="Action").select_option("delete")
    await press(page, "Check what it would do")
    await expect(page.locator("main")).to_contain_text("2 of 3 users would be deleted")
    await expect(page.locator("#failures tbody tr")).to_have_count(1)
    await press(page, "Delete 2 users")
    await expect(page.get_by_role("status")).to_contain_text("2 done, 1 failed (of 3)")


async def test_a_file_is_imported_once_nothing_is_wrong_in_it(
    scripts: bool, stocked: PageFarm, visit: Visit, watcher: Watcher
) -> None:
    watcher.allow("status of 422")
    project = stocked.live.project(users=0)
    page = await visit("manager", "/ui/users/import", java_script_enabled=scripts)
    for content in (WRONG_FILE, RIGHT_FILE):
        file = {"name": "users.csv", "mimeType": "text/csv", "buffer": content}
        await page.locator("[type=file]").set_input_files(file)
        await page.get_by_role("combobox", name="Project").select_option(project)
        await press(page, "Import")
        if content is WRONG_FILE:
            await expect(page.locator("#errors tbody tr")).to_have_count(1)
            await expect(page.locator("#errors tbody th")).to_have_text("3")
    await expect(page.get_by_role("status")).to_contain_text("2 users created")


async def test_a_token_is_shown_once_and_revoked(scripts: bool, visit: Visit) -> None:
    name = f"ci-{scripts}"
    page = await visit("admin", "/ui/access", java_script_enabled=scripts)
    await unfold(page, "Make a token")
    await page.get_by_role("textbox", name="Name").fill(name)
    await press(page, "Make the token")
    written = await page.locator("#token").text_content()
    assert written
    await page.goto("/ui/access")
    await expect(page.locator("main")).not_to_contain_text(written)
    row = page.get_by_role("row", name=name)
    await row.locator("summary").click()
    await row.get_by_role("button", name="Revoke it").click()
    await expect(page.get_by_role("row", name=name)).to_contain_text("revoked")


async def test_a_manager_needs_no_mouse_to_quarantine_a_user(user: str, visit: Visit) -> None:
    page = await visit("manager", user)

    async def tab_to(selector: str) -> None:
        for _ in range(100):
            await page.keyboard.press("Tab")
            if await page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(f"no Tab leads to {selector}")

    await tab_to("#do-quarantine summary")
    await page.keyboard.press("Enter")
    await tab_to("#do-quarantine [name=reason]")
    await page.keyboard.type("by keys alone")
    await page.keyboard.press("Enter")
    await expect(page.locator("#standing")).to_contain_text("by keys alone")


async def test_a_slash_leads_to_the_search(visit: Visit) -> None:
    page = await visit("viewer", "/ui/users")
    await page.keyboard.press("/")
    await page.keyboard.type("leased@shop.test")
    await page.keyboard.press("Enter")
    await expect(page.locator("#users tbody tr")).to_have_count(1)


async def test_a_value_is_copied(visit: Visit, user: str) -> None:
    page = await visit("viewer", user, permissions=["clipboard-read", "clipboard-write"])
    await press(page, "Copy")
    await expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert f"/ui/users/{await page.evaluate('navigator.clipboard.readText()')}" == user
