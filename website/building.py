"""Builds the site, and says what is wrong with it."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from website.built_pages import problems
from website.markdown_links import dead_links
from website.staging import Source, clear, stage

NOISE = re.compile(r"\x1b\[[0-9;]*m|^Traceback .*\n( .*\n)+", re.MULTILINE)
CHECKOUT = Path(__file__).resolve().parents[1]


class BadSiteError(Exception):
    """With a line for each problem."""


def build(checkout: Path, folder: Path, source: Source) -> Path:
    """Gives the folder of the built site.

    Raises:
        BadSiteError: A link or an anchor is broken, something is loaded from elsewhere, or no page leads to a page.
    """
    if dead := [line for document in documents(checkout) for line in dead_links(document, checkout)]:
        raise BadSiteError("\n".join(dead))
    clear(folder)
    stage(checkout, folder, source)
    built = subprocess.run(
        (*zensical("build", folder), "--strict"), cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    if built.returncode:
        raise BadSiteError(NOISE.sub("", built.stdout + built.stderr).strip())
    if found := list(problems(folder / "html")):
        raise BadSiteError("\n".join(found))
    return folder / "html"


def documents(checkout: Path) -> Iterator[Path]:
    """The Markdown files that people read in the repository's own view."""
    yield from sorted(checkout.glob("*.md"))
    for folder in ("clients", "deploy", "docs", "examples"):
        for path in sorted((checkout / folder).rglob("*.md")):
            if "node_modules" not in path.parts:
                yield path


def zensical(command: str, folder: Path) -> tuple[str, ...]:
    return sys.executable, "-m", "zensical", command, "--config-file", str(folder / "zensical.toml")
