"""The import of a file of users: what is wrong with it, line by line, or all of its users."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import Form, Query, Request, Response, UploadFile

from botfarm.domain.access import Role
from botfarm.domain.users import ImportResult
from botfarm.errors import ImportRejectedError
from botfarm.services.stock.importing import MAX_ERRORS
from botfarm.web.api.fields import SearchText, ShortName
from botfarm.web.http.callers import still_admitted
from botfarm.web.http.dependencies import Caller, Farm
from botfarm.web.http.roles import needs
from botfarm.web.pages.chosen_pool import ChosenPool, PoolFilter, chosen_pool
from botfarm.web.pages.page_routing import UploadRoute, page_router, see
from botfarm.web.pages.rendering import render
from botfarm.web.pages.users.uploaded_users import read_users
from botfarm.web.pages.users.words_of_lines import words_of
from botfarm_client.shared.user_files import UserFileError

router = page_router(route_class=UploadRoute)

PAGE = "/ui/users/import"


@router.get("/users/import")
@needs(Role.MANAGER)
async def import_page(
    request: Request, pool: PoolFilter, created: Annotated[int | None, Query(ge=0)] = None
) -> Response:
    """`created`: how many users the import has made that led here."""
    return _page(request, pool, created=created)


@router.post("/users/import")
@needs(Role.MANAGER)
async def import_file(
    farm: Farm,
    caller: Caller,
    request: Request,
    file: UploadFile,
    step: Annotated[Literal["check", "import"], Form()],
    project: Annotated[SearchText, Form()] = None,
    env: Annotated[ShortName | None, Form()] = None,
    domain: Annotated[ShortName | None, Form()] = None,
) -> Response:
    """Creates all users of the file or, when a line is wrong, none. A check creates none in any case."""
    await still_admitted(request)  # the file may have taken long
    pool = await chosen_pool(farm, caller, project, env, domain)
    given = {"project": str(pool.project_id) if pool.project_id else None, "env": env, "domain": domain}
    lines = read_users(
        file.filename or "",
        await file.read(),
        given={name: value for name, value in given.items() if value is not None},
        projects={each.name: str(each.id) for each in pool.projects},
    )
    try:
        result = await farm.importing.import_users(caller, lines, skip_errors=False, dry_run=step == "check")
    except ImportRejectedError as error:
        return _page(request, pool, name=file.filename, rejected=error.details)
    except UserFileError as error:
        return _page(request, pool, name=file.filename, problem=str(error))
    if step == "check":
        return _page(request, pool, name=file.filename, checked=result)
    return see(f"{PAGE}?created={result.created}")


def _page(
    request: Request,
    pool: ChosenPool,
    *,
    created: int | None = None,
    checked: ImportResult | None = None,
    name: str | None = None,
    problem: str | None = None,
    rejected: Mapping[str, Any] | None = None,
) -> Response:
    errors = rejected["errors"] if rejected else []
    return render(
        request,
        "users_import.html",
        title="Import users",
        status=HTTPStatus.UNPROCESSABLE_ENTITY if errors or problem else HTTPStatus.OK,
        pool=pool,
        created=created,
        checked=checked.created if checked else None,
        name=name,
        problem=problem,
        wrong_lines=len({each["line"] for each in errors}),
        errors=[
            (each["line"], each["field"], words_of(each["field"], each["code"], each.get("earlier_line")))
            for each in errors
        ],
        is_cut=len(errors) >= MAX_ERRORS,
    )
