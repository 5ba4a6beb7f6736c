"""The pictures that documents show are there, small, and each one is shown."""

import re
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
PICTURES = CHECKOUT / "docs/page"


def test_the_pictures_of_the_page_are_there_and_shown() -> None:
    shown = {
        (document.parent / path).resolve()
        for document in (CHECKOUT / "README.md", *(CHECKOUT / "docs").glob("*.md"))
        for path in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", document.read_text())
    }
    assert [str(path) for path in shown if not path.exists()] == []
    assert set(PICTURES.iterdir()) <= shown


def test_the_pictures_of_the_page_are_small() -> None:
    assert [path.name for path in PICTURES.iterdir() if path.stat().st_size > 100_000] == []
