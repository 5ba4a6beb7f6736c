"""Every page, for each role: in light and dark, in a wide and in a narrow window, by keys alone, without scripts."""

import pytest

from botfarm.domain.access import Role
from support.browser import NARROW, WIDE, Visit, Watcher, axe_findings, overflow, passed_over_by_tab
from support.page_addresses import ADDRESSES, Address
from support.page_stock import SCOPED, PageFarm

SEEN = [(address, role) for address in ADDRESSES for role in address.seen_by()]


@pytest.fixture
def address(request: pytest.FixtureRequest, watcher: Watcher) -> Address:
    chosen: Address = request.param
    if chosen.status != 200:
        watcher.allow(f"status of {chosen.status}")
    return chosen


@pytest.mark.parametrize(("address", "role"), SEEN, ids=str, indirect=["address"])
@pytest.mark.usefixtures("waiters")
async def test_a_page_is_for_every_eye_and_window(
    address: Address, role: Role | None, stocked: PageFarm, visit: Visit
) -> None:
    page = await visit(role, address.on(stocked))
    found = {}
    for colours in ("light", "dark"):
        await page.emulate_media(color_scheme=colours)
        for size in (WIDE, NARROW):
            await page.set_viewport_size(size)
            findings = await axe_findings(page, only_colours=colours == "dark")
            if wrong := findings + [f"too wide: {each}" for each in await overflow(page)]:
                found[colours, size["width"]] = wrong
    assert found == {}


@pytest.mark.parametrize("address", ADDRESSES, ids=str, indirect=True)
@pytest.mark.usefixtures("waiters")
async def test_a_page_needs_no_mouse(address: Address, stocked: PageFarm, visit: Visit) -> None:
    page = await visit("admin" if address.lowest else None, address.on(stocked))
    assert await passed_over_by_tab(page) == []


async def test_another_project_is_on_no_page(stocked: PageFarm, visit: Visit, watcher: Watcher) -> None:
    watcher.allow("status of 404")
    for address in ("/ui/pools", "/ui/users", "/ui/leases", "/ui/waiting", "/ui/audit", "/ui/capacity"):
        page = await visit(SCOPED, address)
        assert "bank" in await page.content() or address == "/ui/leases", address
        assert "shop" not in await page.content(), address
    page = await visit(SCOPED, f"/ui/users/{stocked.users['leased']}")
    assert "There is no such user." in await page.locator("main").inner_text()
