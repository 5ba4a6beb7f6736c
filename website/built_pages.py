"""Looks through the HTML of a built site for what a reader would run into."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from typing_extensions import override

LOADS = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")}
# The repository's own view takes a line for the begin of a list without an empty line before it.
NO_LIST = re.compile(r"\n(?:[-*]|1\.) .*")
NOT_LOADED = {"canonical", "next", "prev", "alternate"}


@dataclass
class _Page(HTMLParser):
    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    no_lists: list[str] = field(default_factory=list)
    """Lines of text that were meant as the begin of a list."""
    _is_code: bool = False
    _begins: bool = False

    def __post_init__(self) -> None:
        super().__init__()

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._is_code |= tag == "pre"
        self._begins = tag in {"p", "li"}
        values = {name: value or "" for name, value in attrs}
        self.ids |= {values[name] for name in ("id", "name") if name in values}
        for name in ("href", "src"):
            if name not in values:
                continue
            self.links.append(values[name])
            if (tag, name) in LOADS and values.get("rel") not in NOT_LOADED:
                self.loads.append(values[name])

    @override
    def handle_endtag(self, tag: str) -> None:
        self._is_code &= tag != "pre"
        self._begins = False

    @override
    def handle_data(self, data: str) -> None:
        text = f"\n{data}" if self._begins else data
        if not self._is_code:
            self.no_lists += [line.strip() for line in NO_LIST.findall(text)]
        self._begins = False


def problems(site: Path) -> Iterator[str]:
    """A line for each thing that is wrong: links, loads, lists, and pages that no page leads to."""
    pages = {path: _read(path) for path in sorted(site.rglob("*.html"))}
    ways: dict[Path, set[Path]] = {}
    for path, page in pages.items():
        name = path.relative_to(site)
        yield from (f"{name}: loads {load}" for load in page.loads if urlsplit(load).netloc)
        for line in page.no_lists:
            yield f"{name}: no list, because there is no empty line before it: {line}"
        if path != site / "404.html":  # its links are those of wherever it is shown
            ways[path] = {target for target, _, _ in _targets(path, page)}
            for target, anchor, link in _targets(path, page):
                if not target.exists():
                    yield f"{name}: there is no {link}"
                elif anchor and target in pages and anchor not in pages[target].ids:
                    yield f"{name}: no anchor of that name: {link}"
    for path in sorted(pages.keys() - _reached(site / "index.html", ways) - {site / "404.html"}):
        yield f"{path.relative_to(site)}: no page leads here: add it to `nav` in website/zensical.toml"


def _targets(path: Path, page: _Page) -> Iterator[tuple[Path, str, str]]:
    """The file, the anchor, and the link itself, of each link within the site."""
    for link in page.links:
        parts = urlsplit(link)
        if not (parts.scheme or parts.netloc):
            yield _file(path, unquote(parts.path)), unquote(parts.fragment), link


def _read(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text())
    return page


def _file(page: Path, link: str) -> Path:
    target = (page.parent / link).resolve() if link else page
    return target / "index.html" if target.is_dir() else target


def _reached(start: Path, ways: dict[Path, set[Path]]) -> set[Path]:
    reached, found = set(), {start}
    while found:
        reached |= found
        found = {target for page in found for target in ways.get(page, ())} - reached
    return reached
