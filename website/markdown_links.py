"""Finds the links of Markdown files, and those that lead nowhere in the repository's own view."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pymdownx.slugs import slugify

# A fence ends with the marks that it began with.
FENCE = re.compile(r"^ *(```+|~~~+).*?^ *\1 *$", re.MULTILINE | re.DOTALL)
# Code shows links that are none.
CODE = re.compile(FENCE.pattern + r"|(?<!`)(`+)(?!`).+?(?<!`)\2(?!`)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)
_slug = slugify(case="lower")


@dataclass(frozen=True)
class Link:
    start: int
    end: int
    """Where its target is in the text."""
    path: str
    """Empty for a link within the page."""
    anchor: str


def links_of(text: str) -> Iterator[Link]:
    """The links to other files and anchors, in order."""
    prose = CODE.sub(lambda code: re.sub(r"[^\n]", " ", code[0]), text)
    for found in LINK.finditer(prose):
        group = 1 if found[1] else 2
        if not ELSEWHERE.match(found[group]):
            path, _, anchor = found[group].partition("#")
            yield Link(found.start(group), found.end(group), path, anchor)


@cache
def anchors_of(document: Path) -> frozenset[str]:
    """The anchors of its headings. A heading that is there twice has `-1` at its second anchor."""
    anchors: set[str] = set()
    for heading in HEADING.findall(FENCE.sub("", document.read_text())):
        title = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", heading)
        anchor, number = _slug(title, "-"), 0
        while (numbered := f"{anchor}-{number}" if number else anchor) in anchors:
            number += 1
        anchors.add(numbered)
    return frozenset(anchors)


def dead_links(document: Path, checkout: Path) -> Iterator[str]:
    """A line for each link that leads to no file of the checkout, or to no heading of a Markdown file."""
    text = document.read_text()
    for link in links_of(text):
        target = (document.parent / link.path).resolve() if link.path else document
        line = f"{document.relative_to(checkout)}:{text.count(chr(10), 0, link.start) + 1}: "
        if not (target.exists() and target.is_relative_to(checkout)):
            yield f"{line}there is no {link.path}"
        elif link.anchor and target.suffix == ".md" and link.anchor not in anchors_of(target):
            yield f"{line}{link.path or 'this page'} has no heading #{link.anchor}"
