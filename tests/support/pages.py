"""The farm's pages, as a browser without scripts uses them."""

import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html import unescape
from html.parser import HTMLParser
from typing import Any

import httpx
from typing_extensions import override

from botfarm.domain.access import EVERYTHING, Role, Scope
from support.farm import PASSWORD, Farm

SITE = "https://farm.test"
FRAGMENT = {"X-Fragment": "1"}


@asynccontextmanager
async def browser_of(
    farm: Farm, api: httpx.AsyncClient, role: Role, *, name: str | None = None, scope: Scope = EVERYTHING
) -> AsyncIterator[httpx.AsyncClient]:
    """The browser of a new operator, who is named as the role by default."""
    name = name or str(role)
    await farm.services.operators.add(name, PASSWORD, role, scope)
    async with httpx.AsyncClient(transport=api._transport, base_url=SITE) as browser:
        answer = await browser.post("/ui/sign-in", data={"name": name, "password": PASSWORD})
        assert answer.status_code == 303, answer.text
        yield browser


async def submit(
    browser: httpx.AsyncClient, page: httpx.Response, action: str, **fields: str
) -> httpx.Response:
    """Sends the form whose address ends with `action`, as the page has it, with these fields filled in."""
    forms = read(page).forms
    (address,) = [each for each in forms if each.endswith(action)]
    return await browser.post(address, data=forms[address] | fields)


async def followed(browser: httpx.AsyncClient, answer: httpx.Response) -> httpx.Response:
    """The page that a change leads to."""
    assert answer.status_code == 303, answer.text
    return await browser.get(answer.headers["location"])


class Read(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.forms: dict[str, dict[str, str]] = {}
        """What each form of the content sends unless it is filled in, by its address."""
        self.ids = Counter[str]()
        self.links: set[str] = set()
        self.tags: set[str] = set()
        self._fields: dict[str, str] = {}
        self.feed(text)

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.add(tag)
        if "id" in given:
            self.ids[given["id"]] += 1
        if tag == "a":
            self.links.add(given["href"])
        elif tag == "form":
            self._fields = self.forms.setdefault(given["action"], {})
        elif tag == "input" and "name" in given:
            self._fields[given["name"]] = given.get("value", "")


def read(page: httpx.Response) -> Read:
    """The content of a page, without what every page has around it."""
    assert page.headers["cache-control"] == "no-store"
    return Read(page.text.partition("<main")[2] or page.text)


@dataclass
class Browser:
    """One person who is signed in, or a token; without scripts."""

    client: httpx.AsyncClient

    async def get(self, address: str, **headers: str) -> httpx.Response:
        return await self.client.get(SITE + address, headers=headers)

    async def post(self, address: str, data: dict[str, Any], **headers: str) -> httpx.Response:
        return await self.client.post(SITE + address, data=data, headers=headers)

    async def confirm(self, page: httpx.Response, **typed: str) -> httpx.Response:
        """Sends the form of the page of a dry run."""
        form = page.text[page.text.index('<form class="fields"') :]
        (address,) = re.findall(r'<form class="fields" method="post" action="([^"]*)"', form)
        fields: dict[str, list[str]] = {}
        for name, value in re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form):
            fields.setdefault(name, []).append(unescape(value))
        return await self.post(unescape(address), {**fields, "confirmed": "yes", **typed})

    async def upload(self, content: str | bytes, name: str = "users.csv", **fields: str) -> httpx.Response:
        data = {"step": "import", **fields}
        files = {"file": (name, content)}
        return await self.client.post(f"{SITE}/ui/users/import", data=data, files=files)


def text_of(page: httpx.Response) -> str:
    """What a person reads."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page.text)).split())


def rows_of(page: httpx.Response) -> list[str]:
    return re.findall(r'<tr data-part id="user-([0-9a-f-]{36})">', page.text)


SignIn = Callable[[str, Role], Any]
"""Adds an operator of this name and role, and gives the browser."""
