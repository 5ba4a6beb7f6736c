"""Chromium for the tests of the page, and what must not happen while a person uses it."""

import os
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.base import AXE_SCRIPT
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request, async_playwright

WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 320, "height": 640}
"""The narrow one is what WCAG asks for (1.4.10): 1280 pixels at a zoom of 400 %."""

_WCAG = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
_COLOURS = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}
_REPORT_VIOLATIONS = """
    document.addEventListener("securitypolicyviolation", event =>
        reportViolation(`${event.violatedDirective} of ${event.blockedURI || "inline"}`))"""


Visit = Callable[..., Awaitable[Page]]
"""Of the fixture `visit`."""


@asynccontextmanager
async def open_browser() -> AsyncIterator[Browser]:
    """The system's Chromium, as deploy/tests/find-chromium.sh found it; none is downloaded."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=shutil.which(os.environ.get("CHROMIUM", "chromium")),
            chromium_sandbox=os.geteuid() != 0,  # which root cannot have
        )
        yield browser
        await browser.close()


async def unfold(page: Page, name: str) -> None:
    await page.locator("summary").get_by_text(name, exact=True).click()


async def press(page: Page, name: str) -> None:
    await page.get_by_role("button", name=name, exact=True).click()


async def quarantine(page: Page, reason: str) -> None:
    """By the form on the page of a user."""
    await unfold(page, "Quarantine")
    await page.get_by_role("textbox", name="Reason").fill(reason)
    await press(page, "Quarantine")


class Watcher:
    """Notes errors, violations of the content security policy, dialogs and requests to other origins."""

    def __init__(self) -> None:
        self._origins: set[str] = set()
        self._allowed: list[str] = []
        self._found: list[str] = []

    async def watch(self, context: BrowserContext, url: str) -> None:
        self._origins.add(urlsplit(url).netloc)
        context.on("console", self._on_console)
        context.on("weberror", lambda error: self._found.append(f"error: {error.error}"))
        context.on("dialog", lambda dialog: self._found.append(f"dialog: {dialog.message}"))
        context.on("request", self._on_request)
        await context.expose_binding("reportViolation", lambda _, said: self._found.append(f"policy: {said}"))
        await context.add_init_script(_REPORT_VIOLATIONS)

    def allow(self, pattern: str) -> None:
        """What the test itself brings about, such as the status of a page that it must not see."""
        self._allowed.append(pattern)

    def found(self) -> list[str]:
        return [
            each for each in self._found if not any(re.search(allowed, each) for allowed in self._allowed)
        ]

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self._found.append(f"console: {message.text}")

    def _on_request(self, request: Request) -> None:
        if urlsplit(request.url).netloc not in self._origins:
            self._found.append(f"request to another origin: {request.url}")


async def axe_findings(page: Page, *, only_colours: bool = False) -> list[str]:
    """What axe says against the page by WCAG 2.2 AA, with the elements."""
    options = {"resultTypes": ["violations"], "runOnly": _COLOURS if only_colours else _WCAG}
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(AXE_SCRIPT)
    violations = await page.evaluate("options => axe.run(options).then(found => found.violations)", options)
    return [f"{each['id']}: {', '.join(_elements(each))}" for each in violations]


def _elements(violation: dict[str, Any]) -> list[str]:
    return [f"{node['html'][:200]} ({node['failureSummary']})" for node in violation["nodes"]]


async def overflow(page: Page) -> list[str]:
    """The innermost elements that reach beyond the right edge, when the page can be scrolled sideways."""
    found: list[str] = await page.evaluate(
        """() => {
            const width = document.documentElement.clientWidth
            if (document.documentElement.scrollWidth <= width) return []
            const isBeyond = element => element.getBoundingClientRect().right > width + 0.5
            return [...document.querySelectorAll("body *")]
                .filter(element => isBeyond(element) && ![...element.children].some(isBeyond))
                .map(element => element.outerHTML.slice(0, 200))
        }"""
    )
    return found


_TO_REACH = """
    window.toReach = () => [...document.querySelectorAll("a[href], button, select, textarea, summary, "
            + "input:not([type=hidden], [type=radio]:not(:checked))")]
        .filter(element => element.checkVisibility({visibilityProperty: true}) && !element.disabled)
        .map(element => element.outerHTML)  // because a live page puts a new element in the place of an old one
        .filter(html => !window.reached.has(html))
    window.reached = new Set()
    document.querySelectorAll("details").forEach(each => each.open = true)"""
_REACH = """() => {
    const element = document.activeElement, style = getComputedStyle(element)
    const isShown = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1
    if (isShown && element.getBoundingClientRect().right > 0) window.reached.add(element.outerHTML)
    return window.toReach().length
}"""


async def passed_over_by_tab(page: Page) -> list[str]:
    """What a person may use but does not reach by the Tab key, or does not see when it has the focus."""
    await page.evaluate(_TO_REACH)
    for _ in range(2 * await page.evaluate("window.toReach().length") + 4):  # wherever the focus is at first
        await page.keyboard.press("Tab")
        if not await page.evaluate(_REACH):
            return []
    left: list[str] = await page.evaluate("window.toReach()")
    return left
