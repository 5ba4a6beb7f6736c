"""The page's script alone, on a site that answers what a test wants: what it changes on a page, and what it leaves."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest_asyncio
from playwright.async_api import Browser, Error, Locator, Page, Route, expect

from botfarm.web.pages.rendering import STATIC

SITE = "http://farm.test"
ADDRESS = "/ui/list?a=b"
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'"
NOW_AND_THEN = 10_000
"""Milliseconds in which a page without a stream has polled, for a busy machine."""


@dataclass
class Site:
    """Without a stream: a page polls, and asks at once when it is shown again."""

    page: Page
    fragment: str = ""
    status: int = 200
    fetched: list[int] = field(default_factory=list)
    errors: list[Error] = field(default_factory=list)

    async def answer(self, route: Route) -> None:
        path = route.request.url.removeprefix(SITE).partition("?")[0]
        if path.startswith("/ui/static/"):
            await route.fulfill(path=STATIC / path.rpartition("/")[2], content_type="text/javascript")
        elif path == "/ui/changes":
            await route.fulfill(status=429)
        elif "x-fragment" in route.request.headers:
            await self._answer_fragment(route)
        else:
            body = (
                "<!doctype html><script type=module src=/ui/static/page.js></script>"
                f"<main id=content tabindex=-1 data-live data-etag='{self._etag}'>{self.fragment}</main>"
            )
            headers = {"Content-Security-Policy": POLICY, "Content-Type": "text/html"}
            await route.fulfill(body=body, headers=headers)

    async def _answer_fragment(self, route: Route) -> None:
        is_known = self.status == 200 and route.request.headers["if-none-match"] == self._etag
        status = 304 if is_known else self.status
        self.fetched.append(status)
        headers = {"ETag": self._etag, "Content-Type": "text/html"}
        await route.fulfill(status=status, body="" if is_known else self.fragment, headers=headers)

    @property
    def _etag(self) -> str:
        return f'"{hash(self.fragment)}"'

    async def show(self, fragment: str) -> None:
        self.fragment = fragment
        await self.page.goto(ADDRESS)

    async def change(self, fragment: str) -> None:
        """The page has fetched it when this returns."""
        self.fragment = fragment
        async with self.page.expect_response(lambda answer: "x-fragment" in answer.request.headers):
            await self.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        await self.page.evaluate("new Promise(shown => setTimeout(shown, 50))")

    async def leave_fields(self) -> None:
        await self.page.evaluate("document.activeElement.blur()")

    async def rows(self) -> list[str]:
        return [text.strip() for text in await self.page.locator("tr[data-part]").all_inner_texts()]

    @property
    def notice(self) -> Locator:
        return self.page.locator("#changes")


@pytest_asyncio.fixture(loop_scope="session")
async def site(browser: Browser) -> AsyncIterator[Site]:
    context = await browser.new_context(base_url=SITE, timezone_id="Asia/Tokyo")
    opened = Site(await context.new_page())
    opened.page.on("pageerror", lambda error: opened.errors.append(error))  # noqa: PLW0108  Playwright marks it
    await context.route("**/*", opened.answer)
    yield opened
    await context.close()
    assert opened.errors == []


def listed(kind: str, **rows: str) -> str:
    """A list of rows by their names, each with a box to tick and a text."""
    body = "".join(
        f"<tr data-part id=row-{name}><td><input type=checkbox name=id value={name}>{text}</td></tr>"
        for name, text in rows.items()
    )
    return (
        f"<p id=changes role=status hidden></p><table data-list={kind} id=list><tbody>{body}</tbody></table>"
    )


async def test_a_long_list_says_how_many_rows_would_come_and_go(site: Site) -> None:
    await site.show(listed("announce", a="a, free", b="b, free"))
    await site.page.locator("[value=a]").check()
    await site.leave_fields()
    await site.change(listed("announce", c="c, free", a="a, leased"))
    assert await site.rows() == ["a, leased", "b, free"]
    await expect(site.page.locator("[value=a]")).to_be_checked()
    await expect(site.notice).to_have_text("2 changes, refresh")
    await expect(site.notice.get_by_role("link")).to_have_attribute("href", f"{SITE}{ADDRESS}")
    await site.change(listed("announce", a="a, leased", b="b, free"))
    await expect(site.notice).to_be_hidden()


async def test_a_short_list_has_the_rows_of_the_farm_in_its_order(site: Site) -> None:
    await site.show(listed("replace", a="a", b="b", c="c"))
    await site.page.evaluate("window.kept = document.getElementById('row-c')")
    await site.change(listed("replace", d="d", c="c", a="a, leased"))
    assert await site.rows() == ["d", "c", "a, leased"]
    assert await site.page.evaluate("window.kept === document.getElementById('row-c')")
    await site.change(listed("replace"))
    assert await site.rows() == []
    await site.change(listed("replace", e="e"))
    assert await site.rows() == ["e"]


async def test_an_empty_page_becomes_a_list_and_an_empty_page_again(site: Site) -> None:
    await site.show("<p>No users yet.</p>")
    await site.change(listed("replace", a="a"))
    assert await site.rows() == ["a"]
    await site.change("<p>No users yet.</p>")
    await expect(site.page.locator("main")).to_have_text("No users yet.")


async def test_a_part_that_is_used_changes_when_it_is_left(site: Site) -> None:
    part = "<div data-part id=p><details><summary>menu</summary></details> {} <input id=reason></div>"
    shown = site.page.locator("#p")
    await site.show(part.format("one"))
    await site.page.locator("summary").click()
    await site.leave_fields()
    await site.change(part.format("two"))
    await expect(shown).to_contain_text("one")
    await site.page.locator("summary").click()
    await site.leave_fields()
    await expect(shown).to_contain_text("two", timeout=NOW_AND_THEN)
    await site.page.locator("#reason").fill("half a reason")
    await site.leave_fields()
    await site.change(part.format("three"))
    await expect(shown).to_contain_text("two")
    await site.page.locator("#reason").fill("")
    await site.leave_fields()
    await expect(shown).to_contain_text("three", timeout=NOW_AND_THEN)


async def test_times_are_the_readers_own(site: Site) -> None:
    ago, left = await site.page.evaluate(
        "[200, -200].map(seconds => new Date(Date.now() - seconds * 1000).toISOString())"
    )
    await site.show(
        "<time datetime=2026-11-28T23:00:00Z>2026-11-28 23:00 UTC</time>"
        f"<time datetime={ago} data-ago></time><time datetime={left} data-left></time>"
        f"<time datetime={ago} data-left></time>"
    )
    await expect(site.page.locator("time")).to_have_text(["2026-11-29 08:00", "3 min ago", "in 3 min", "now"])


async def test_who_is_signed_out_is_led_to_the_sign_in_and_back(site: Site) -> None:
    await site.show("<p data-part id=p>one</p>")
    site.status = 401
    await site.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await site.page.wait_for_url(f"{SITE}/ui/sign-in?next=%2Fui%2Flist%3Fa%3Db")


async def test_a_farm_that_does_not_answer_is_told_until_it_does(site: Site) -> None:
    await site.show("<p data-part id=p>one</p>")
    site.status = 502
    await site.change("<p data-part id=p>two</p>")
    await expect(site.notice).to_contain_text("No answer from the farm since")
    site.status = 200
    await expect(site.page.locator("#p")).to_have_text("two", timeout=NOW_AND_THEN)
    await expect(site.notice).to_be_hidden()


async def test_a_key_and_buttons_that_only_a_script_can_serve(site: Site) -> None:
    await site.show(
        "<input data-search><code id=token>a-token</code><button data-copy='#token' hidden>Copy</button>"
        "<input type=checkbox data-check-all=id hidden><input type=checkbox name=id><input type=checkbox name=id>"
    )
    await site.page.keyboard.press("/")
    await site.page.keyboard.type("a/b")
    await expect(site.page.locator("[data-search]")).to_have_value("a/b")
    await site.page.evaluate(
        "document.addEventListener('copy', () => window.copied = String(getSelection()))"
    )
    await site.page.get_by_role("button").click()
    await expect(site.page.get_by_role("button")).to_have_text("Copied")
    assert await site.page.evaluate("window.copied") == "a-token"
    await site.page.locator("[data-check-all]").check()
    await expect(site.page.locator("[name=id]:checked")).to_have_count(2)
