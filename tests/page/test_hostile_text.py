"""What callers write is text on every page: no element, no script, and no link but to the web."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlencode

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from support.browser import NARROW, WIDE, Visit, Watcher, overflow
from support.page_stock import PageFarm

ELEMENT = "\"'><img src=x onerror=alert(1)><script>alert(2)</script>{{7*7}}"
LOGIN = "o'neil&{{7*7}}=`x`@shop.test"
UNBROKEN = "x" * 250
METADATA = {
    "job_url": "javascript:alert(3)",
    "page": "data:text/html,<script>alert(4)</script>",
    "report": 'https://ci.test/"onmouseover="alert(5)',
    ELEMENT: UNBROKEN,
    UNBROKEN: ELEMENT,
}
FOREIGN = """() => [
    ...document.querySelectorAll("img, iframe, script:not([src^='/ui/static/'])"),
    ...[...document.querySelectorAll("*")].filter(each => [...each.attributes].some(a => a.name.startsWith("on"))),
    ...[...document.links].filter(each => !["http:", "https:"].includes(each.protocol)),
].map(each => each.outerHTML)"""


@dataclass(frozen=True)
class Hostile:
    project: str
    user_id: str
    other_id: str
    lease_id: str


@pytest_asyncio.fixture(loop_scope="session")
async def hostile(stocked: PageFarm) -> AsyncIterator[Hostile]:
    """A user with such a login and labels, leased by such an owner, while such a request waits for it."""
    live = stocked.live
    project = live.project(users=0)
    labels = {"text": ELEMENT, "long": UNBROKEN}
    user, other = (
        live.user(live.project_id(project), login=login, labels=labels) for login in (LOGIN, f"p+{LOGIN}")
    )
    wanted = {"project": project, "env": "stage", "owner": ELEMENT, "labels": labels, "metadata": METADATA}
    live._post(f"/users/{other['id']}/quarantine", {"reason": ELEMENT + UNBROKEN})
    release = {"outcome": "broken", "reason": "other", "note": ELEMENT + UNBROKEN}
    live._post(f"/leases/{live.take(**wanted)['id']}/release", release)
    lease = live.take(**wanted)
    async with httpx.AsyncClient(headers=live.http.headers, timeout=60, verify=False) as http:
        body = {**wanted, "wait_seconds": 50}
        waiting = asyncio.create_task(http.post(f"{stocked.url}/api/v1/leases", json=body))
        async with asyncio.timeout(30):
            while not live.get("/leases/waiting", project_id=live.project_id(project))["items"]:
                await asyncio.sleep(0.02)
        yield Hostile(project, user["id"], other["id"], lease["id"])
        waiting.cancel()
        await asyncio.wait([waiting])


async def harm(page: Page) -> list[str]:
    """Foreign elements, and text that makes the page wider than the window."""
    found: list[str] = await page.evaluate(FOREIGN)
    for size in (WIDE, NARROW):
        await page.set_viewport_size(size)
        found += (f"too wide in {size['width']}: {each}" for each in await overflow(page))
    return found


async def test_text_of_callers_stays_text_on_every_page(hostile: Hostile, visit: Visit) -> None:
    page, found = await visit("admin", "/ui/pools"), {}
    for path, shown in (
        ("/ui/pools", hostile.project),
        (f"/ui/users?project={hostile.project}", ELEMENT),
        (f"/ui/users?label=text:{ELEMENT.replace('&', '%26')}", LOGIN),
        (f"/ui/users/{hostile.user_id}", ELEMENT),
        (f"/ui/users/{hostile.other_id}", ELEMENT),
        (f"/ui/leases?project={hostile.project}", ELEMENT),
        (f"/ui/leases/{hostile.lease_id}", ELEMENT),
        (f"/ui/waiting?project={hostile.project}", ELEMENT),
        (f"/ui/audit?project={hostile.project}", ELEMENT),
    ):
        await page.goto(path)
        await expect(page.locator("main")).to_contain_text(shown)
        if wrong := await harm(page):
            found[path] = wrong
    assert found == {}


async def test_only_addresses_of_the_web_become_links(hostile: Hostile, visit: Visit) -> None:
    page = await visit("viewer", f"/ui/leases/{hostile.lease_id}")
    [link] = await page.locator("main a[href*='//']").all()
    assert await link.get_attribute("href") == METADATA["report"]
    await expect(page.locator("main")).to_contain_text("javascript:alert(3)")


async def test_the_name_of_a_file_is_text(visit: Visit, watcher: Watcher) -> None:
    watcher.allow("status of 422")
    page = await visit("manager", "/ui/users/import")
    file = {"name": f"{ELEMENT}.csv", "mimeType": "text/csv", "buffer": f"login\n{ELEMENT}\n".encode()}
    await page.locator("[type=file]").set_input_files(file)
    await page.get_by_role("button", name="Check only").click()
    await expect(page.get_by_role("alert")).to_contain_text("onerror=alert(1)")
    assert await harm(page) == []


@pytest.mark.parametrize("field", ["login", "label", "state", "project", "did"])
async def test_text_in_an_address_is_text(field: str, visit: Visit, watcher: Watcher) -> None:
    watcher.allow("status of 4")  # not every field takes every text
    page = await visit("viewer", f"/ui/users?{urlencode({field: ELEMENT})}")
    assert await harm(page) == []
