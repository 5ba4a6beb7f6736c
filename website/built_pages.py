"""Looks through the HTML of a built site for what a reader would run into."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from typing_extensions import override

LOADS = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")}
NOT_LOADED = {"canonical", "next", "prev", "alternate"}


@dataclass
class _Page(HTMLParser):
    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids |= {values[name] for name in ("id", "name") if name in values}
        for name in ("href", "src"):
            if name not in values:
                continue
            self.links.append(values[name])
            if (tag, name) in LOADS and values.get("rel") not in NOT_LOADED:
                self.loads.append(values[name])


def problems(site: Path) -> Iterator[str]:
    """A line for each link without its file or anchor, each file from elsewhere, each page without a way to it."""
    pages = {path: _read(path) for path in sorted(site.rglob("*.html"))}
    ways: dict[Path, set[Path]] = {}
    for path, page in pages.items():
        name = path.relative_to(site)
        for load in page.loads:
            if urlsplit(load).netloc:
                yield f"{name}: loads {load}"
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or name.name == "404.html":
                continue
            target = _file(path, unquote(parts.path))
            ways.setdefault(path, set()).add(target)
            if not target.exists():
                yield f"{name}: there is no {link}"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                yield f"{name}: no anchor of that name: {link}"
    for path in sorted(pages.keys() - _reached(site / "index.html", ways) - {site / "404.html"}):
        yield f"{path.relative_to(site)}: no page leads here: add it to `nav` in website/zensical.toml"


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
