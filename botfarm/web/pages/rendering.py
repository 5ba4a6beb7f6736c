"""Makes pages: a fragment from a template, and around it the layout."""

import hashlib
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from botfarm.domain.access import Principal, Role
from botfarm_client.shared.durations import format_duration

FRAGMENT = "X-Fragment"
"""The header by which the page's script asks for the fragment alone."""

NEXT_CHANGE = "X-Next-Change"
"""The header that tells the script after how many seconds time alone will have changed the page."""

LONGEST_PAUSE = 3_600
"""Seconds, because a timer of a browser ends at once when it is for more than 24 days."""

STATIC = Path(__file__).parent / "static"


def render(
    request: Request,
    template: str,
    *,
    title: str,
    status: int = 200,
    is_live: bool = False,
    next_in: float | None = None,
    **figures: Any,
) -> Response:
    """The page, or its fragment when the script asks for it; nothing when the script has that one already.

    `is_live`: the script keeps the page up to date. `next_in`: seconds until time alone changes it.
    """
    page = _environment()
    about = {"caller": getattr(request.state, "principal", None), "path": request.url.path}
    fragment = page.get_template(template).render(about, **figures)
    # None for a page that is not live, because it may have a password, which a digest would help to guess.
    etag = f'"{hashlib.sha256(fragment.encode()).hexdigest()[:32]}"' if is_live else None
    headers = {"Cache-Control": "no-store", "Vary": FRAGMENT, **({"ETag": etag} if etag else {})}
    next_second = None if next_in is None else min(math.ceil(next_in) + 1, LONGEST_PAUSE)
    if next_second is not None:
        headers[NEXT_CHANGE] = str(next_second)
    if is_fragment(request):
        if etag and request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return HTMLResponse(fragment, status, headers)
    layout = page.get_template("layout.html")
    around = {
        "title": title,
        "is_live": is_live,
        "etag": etag,
        "next_second": next_second,
        "content": fragment,
    }
    return HTMLResponse(layout.render(about, **around), status, headers)


def is_fragment(request: Request) -> bool:
    return FRAGMENT in request.headers


def static_address(name: str) -> str:
    """With the file's digest, because browsers keep it for a year."""
    return f"/ui/static/{name}?v={_digest(name)}"


@cache
def _digest(name: str) -> str:
    return hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:16]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("botfarm.web.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"static": static_address, "may": _may}
    environment.filters |= {"duration": format_duration, "links": links_of}
    return environment


def _may(caller: Principal | None, role: str) -> bool:
    """Whether the caller's role includes this one. Checked again by the route of the action."""
    return caller is not None and caller.role.includes(Role(role))


def links_of(metadata: Mapping[str, object]) -> dict[str, str]:
    """The entries that are web addresses, such as the CI job. A caller wrote them, so nothing else is a link."""
    return {
        name: value
        for name, value in metadata.items()
        if isinstance(value, str) and value.startswith(("https://", "http://"))
    }
