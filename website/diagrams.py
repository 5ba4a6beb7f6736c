"""Draws the Mermaid diagrams of the pages at build time, so that a page loads no script for them."""

from itertools import count
from typing import Any

from merman import Merman, MermanError
from pymdownx.superfences import SuperFencesException

# Labels are measured larger than site.css shows them, because the reader's font is not known here.
STYLE = (
    '%%{init: {"theme": "neutral", "look": "classic", "fontFamily": "Arial, Helvetica, sans-serif",'
    ' "fontSize": 15, "themeVariables": {"fontSize": "15px"}, "sequence": {"wrap": true}}}%%\n'
)
_numbers = count(1)


def draw(source: str, *_: Any, **__: Any) -> str:
    """The SVG of one diagram, as pymdownx.superfences asks for it. A diagram that cannot be drawn ends the build."""
    try:
        svg = Merman().render_svg(STYLE + source, None)
    except MermanError.Binding as mistake:
        raise SuperFencesException(f"{mistake.message} in the diagram\n{source}") from mistake
    # Each one has rules of its own by its id, and several may be on a page.
    return f'<div class="diagram">{svg.replace("merman", f"diagram-{next(_numbers)}")}</div>'
