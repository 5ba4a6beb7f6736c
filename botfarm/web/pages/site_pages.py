"""What belongs to no page of its own: the way to the first page, the files of the page, and unknown addresses."""

from typing import Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse

from botfarm.errors import NoSuchPageError
from botfarm.web.http.roles import public
from botfarm.web.pages.page_routing import FIRST_PAGE, page_router, see
from botfarm.web.pages.rendering import STATIC

root = APIRouter(include_in_schema=False)
router = page_router()


@root.get("/")
@public
async def first_page(request: Request) -> Response:
    """For a browser. A machine that asks here is told that there is nothing."""
    if "text/html" not in request.headers.get("accept", ""):
        raise NoSuchPageError
    return see(FIRST_PAGE)


@router.get("")
@public
async def ui() -> Response:
    return see(FIRST_PAGE)


@router.get("/static/{name}")
@public
async def static_file(name: Literal["style.css", "page.js"], v: str = "") -> Response:
    """Kept by browsers for a year, because the address has the digest of the file in `v`."""
    headers = {"Cache-Control": "public, max-age=31536000, immutable" if v else "no-cache"}
    return FileResponse(STATIC / name, headers=headers)


@router.get("/{_:path}")
@public
async def unknown_page() -> Response:
    raise NoSuchPageError
