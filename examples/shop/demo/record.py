"""Draws the README's picture of a real run: `python -m demo.record docs/demo.svg`, at the checkout's top."""

import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

COMMAND = ("make", "demo")
WIDTH = 92
LONGEST_PAUSE = 2.0
"""Seconds. Who looks at the picture does not wait for the tests as who runs them."""

# That of rich without its fonts, which a browser would fetch from elsewhere.
SVG = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<title>A real run of make demo</title>
<style>
.{unique_id}-matrix {{
  font: {char_height}px/{line_height}px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace
}}
.{unique_id}-title {{ font: bold 18px system-ui, sans-serif }}
{styles}
@media (prefers-reduced-motion: no-preference) {{
  .{unique_id}-matrix text {{ animation: appear 1ms backwards }}
}}
@keyframes appear {{ from {{ opacity: 0 }} }}
/* delays */
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def main() -> None:
    recorded = [(0.0, f"$ {' '.join(COMMAND)}"), *run()]
    Path(sys.argv[1]).write_text(picture([line for _, line in recorded], delays([at for at, _ in recorded])))


def run() -> Iterator[tuple[float, str]]:
    """Each line, and the second that it came in."""
    as_on_a_terminal = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(WIDTH)}
    started_at = time.monotonic()
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, env=as_on_a_terminal, text=True) as demo:
        for line in demo.stdout or ():
            yield time.monotonic() - started_at, line.rstrip("\n")
    if demo.returncode:
        sys.exit(demo.returncode)


def delays(moments: Sequence[float]) -> list[float]:
    found = [0.0]
    for before, after in pairwise(moments):
        found.append(found[-1] + min(after - before, LONGEST_PAUSE))
    return found


def picture(lines: Sequence[str], seconds: Sequence[float]) -> str:
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, highlight=False)
    for line in lines:
        console.print(Text.from_ansi(line))
    svg = console.export_svg(title=" ".join(COMMAND), theme=MONOKAI, code_format=SVG, unique_id="demo")
    rules = (
        f'text[clip-path="url(#demo-line-{number})"] {{ animation-delay: {second:.1f}s }}'
        for number, second in enumerate(seconds)
        if second
    )
    return svg.replace("/* delays */", "\n".join(rules))


if __name__ == "__main__":
    main()
