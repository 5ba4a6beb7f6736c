"""The picture of the house in CONTRIBUTING.md shows the imports as they are."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import grimp

CONTRIBUTING = Path(__file__).parents[2] / "CONTRIBUTING.md"
PACKAGES = ("botfarm", "workers", "botfarm_client")
FOUNDATION = {
    "domain",
    "errors",
    "settings",
    "database_urls",
    "group_roles",
    "crypto",
    "metrics",
    "logs",
    "log_writer",
    "__init__",
}
"""Every room may use these modules, so the picture leaves them out."""
FLOORS_WITH_ROOMS = {"web", "services", "db", "client"}

Arrow = tuple[str, str]


def drawn() -> set[Arrow]:
    picture = CONTRIBUTING.read_text().partition("```mermaid\n")[2].partition("```")[0]
    arrows: set[Arrow] = set()
    for line in picture.splitlines():
        steps = [re.findall(r"[a-z_]+", step) for step in line.split("-->")]
        for sources, targets in pairwise(steps):
            arrows |= {(source, target) for source in sources for target in targets}
    return arrows


def imported() -> set[Arrow]:
    """Between the rooms of one floor, and between floors."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    arrows: set[Arrow] = set()
    for module in graph.modules:
        for used in graph.find_modules_directly_imported_by(module):
            (floor, room), (used_floor, used_room) = _place(module), _place(used)
            if floor != used_floor:
                arrows.add((floor, used_floor))
            elif floor in FLOORS_WITH_ROOMS and room != used_room and "__init__" not in {room, used_room}:
                arrows.add((f"{floor}_{room}", f"{used_floor}_{used_room}"))
    return {(place, used) for place, used in arrows if not FOUNDATION & {place, used}}


def _place(module: str) -> Arrow:
    """Its floor and its room."""
    package, *inside = module.split(".")
    if package == "botfarm":
        floor, *inside = inside or ["__init__"]
    else:
        floor = package.removeprefix("botfarm_")
    return floor, inside[0] if inside else "__init__"


def reachable(arrows: set[Arrow]) -> set[Arrow]:
    found = set(arrows)
    while more := set(_joined(found)) - found:
        found |= more
    return found


def _joined(arrows: set[Arrow]) -> Iterator[Arrow]:
    for first, middle in arrows:
        for second, last in arrows:
            if middle == second:
                yield first, last


def test_every_arrow_of_the_picture_is_an_import() -> None:
    assert drawn()
    assert drawn() - imported() == set()


def test_every_import_between_rooms_and_floors_follows_the_arrows_of_the_picture() -> None:
    assert imported() - reachable(drawn()) == set()


def test_the_picture_has_no_circle() -> None:
    assert [place for place, target in reachable(drawn()) if place == target] == []
