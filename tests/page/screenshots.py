"""Makes the pictures of docs/page.md: `make screenshots`. The demo farm in the middle of a working day.

It is the same farm each time, but for ids, and for the times that are not shown as `5 min ago`.
"""

import asyncio

import asyncpg
from playwright.async_api import FloatRect, Page

from botfarm.cli.demo import add_to
from botfarm.domain.access import EVERYTHING, Role
from botfarm.runtime.services import open_services
from botfarm.runtime.startup import migrate
from support.browser import open_browser
from support.farm import PASSWORD, test_settings
from support.page_stock import serving_pages, sign_in
from support.postgres import fresh_database, server_url
from support.processes import CHECKOUT, end_fork_server, heed_signals
from support.small_png import small_png
from support.working_day import add_history, working_day

PICTURES = CHECKOUT / "docs/page"
WINDOW = {"width": 1280, "height": 720}
PERSON = "dana"


def main() -> None:
    heed_signals()
    PICTURES.mkdir(exist_ok=True)
    with server_url() as postgres, fresh_database(postgres) as database_url:
        asyncio.run(prepare(database_url))
        with serving_pages(database_url) as (_, url):
            asyncio.run(draw(url, database_url))
    end_fork_server()


async def prepare(database_url: str) -> None:
    settings = test_settings(database_url)
    await migrate(settings)
    await add_to(settings)
    sql = await asyncpg.connect(database_url)
    async with open_services(settings, "screenshots", in_background=True) as services:
        await services.operators.add(PERSON, PASSWORD, Role.MANAGER, EVERYTHING)
        await add_history(sql, (await services.projects.look_up(EVERYTHING, "shop")).id)
        await services.rollups.roll_up(asyncio.Event())
    await sql.close()


async def draw(url: str, database_url: str) -> None:
    sql, person = await asyncpg.connect(database_url), await sign_in(url, PERSON)
    async with working_day(url, person, sql) as users, open_browser() as browser:
        pictures = [
            ("pools-light", "light", "/ui/pools"),
            ("pools-dark", "dark", "/ui/pools"),
            ("waiting", "light", "/ui/waiting"),
            ("users", "light", "/ui/users?project=shop&env=stage&domain=regular"),
            ("user", "light", f"/ui/users/{users['regular-3@stage.shop.test']}"),
            ("capacity", "light", "/ui/capacity?project=shop&env=stage&domain=canary"),
        ]
        context = await browser.new_context(base_url=url, viewport=WINDOW)
        await context.add_cookies([person])
        page, blank = await context.new_page(), await context.new_page()
        for name, colours, path in pictures:
            await page.emulate_media(color_scheme=colours)
            await page.goto(path)
            picture = await page.screenshot(full_page=True, clip=await content_of(page))
            (PICTURES / f"{name}.png").write_bytes(await small_png(blank, picture))
    await sql.close()


async def content_of(page: Page) -> FloatRect:
    """The page without the empty ground below its content."""
    box = await page.locator("main").bounding_box()
    assert box
    return {"x": 0, "y": 0, "width": WINDOW["width"], "height": box["y"] + box["height"] - 32}


if __name__ == "__main__":
    main()
