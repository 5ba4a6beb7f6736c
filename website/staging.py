"""Copies what a build needs into a folder of its own: pages with the links of a site, configuration, theme."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from website.markdown_links import Link, links_of


@dataclass(frozen=True)
class Source:
    """What pages link to outside of docs/: a file of the repository, as it was at a tag or a branch."""

    repository: str | None
    """Its address, such as `https://git.example.com/team/botfarm`. Without one such links become text."""
    ref: str


def stage(checkout: Path, folder: Path, source: Source) -> None:
    """Files that have not changed keep their times, so that a server of the site need not build them again."""
    website = checkout / "website"
    _write(folder / "zensical.toml", (website / "zensical.toml").read_bytes())
    _write(folder / "theme/main.html", (website / "theme/main.html").read_bytes())
    _write(folder / "docs/site.css", (website / "theme/site.css").read_bytes())
    kept = {folder / "docs/site.css"}
    for path in sorted((checkout / "docs").rglob("*")):
        if path.is_file():
            staged = folder / path.relative_to(checkout)
            kept.add(staged)
            _write(staged, _page(path, checkout, source) if path.suffix == ".md" else path.read_bytes())
    for path in (folder / "docs").rglob("*"):
        if path.is_file() and path not in kept:
            path.unlink()


def clear(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _page(page: Path, checkout: Path, source: Source) -> bytes:
    """The page with its links out of docs/ as links into the repository, the last one first."""
    text = page.read_text()
    for link in reversed(list(links_of(text))):
        target = (page.parent / link.path).resolve()
        if link.path and target.is_relative_to(checkout) and not target.is_relative_to(checkout / "docs"):
            text = _leading_out(text, link, target.relative_to(checkout), source)
    return text.encode()


def _leading_out(text: str, link: Link, path: Path, source: Source) -> str:
    if source.repository is not None:
        anchor = f"#{link.anchor}" if link.anchor else ""
        address = f"{source.repository.rstrip('/')}/blob/{source.ref}/{path.as_posix()}{anchor}"
        return text[: link.start] + address + text[link.end :]
    if not text.endswith("](", 0, link.start):
        return text  # a definition below the text, which the build then refuses
    opening, closing = text.rindex("[", 0, link.start), text.index(")", link.end)
    return text[:opening] + text[opening + 1 : link.start - len("](")] + text[closing + 1 :]


def _write(path: Path, content: bytes) -> None:
    if not path.exists() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
