"""The import of a file of users: what is wrong with it, line by line, or all of its users."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import Depends, Form, Query, Request, Response, UploadFile

from botfarm.domain.access import Role
from botfarm.domain.users import OnError
from botfarm.errors import ImportRejectedError
from botfarm.services.stock.importing import MAX_ERRORS
from botfarm.web.api.shared.fields import SearchText, ShortName
from botfarm.web.http.callers import still_admitted
from botfarm.web.http.dependencies import Caller, Farm
from botfarm.web.http.roles import needs
from botfarm.web.pages.chosen_pool import ChosenPool, PoolFilter, chosen_pool
from botfarm.web.pages.page_routing import UploadRoute, page_router, see
from botfarm.web.pages.rendering import render
from botfarm.web.pages.users.uploaded_users import read_lines, user_file
from botfarm.web.pages.users.words_of_lines import words_of
from botfarm_client.shared.user_files.records import Reading, UserFileError

router = page_router(route_class=UploadRoute)

PAGE = "/ui/users/import"
Count = Annotated[int | None, Query(ge=0)]


@dataclass(frozen=True, slots=True)
class Choices:
    """What the form says beside the pool."""

    update: bool = False
    """Whether users that are there are changed as their lines say."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """The names of the file's own columns, by the fields that they hold."""

    @property
    def on_error(self) -> OnError:
        return OnError.UPDATE if self.update else OnError.FAIL


@dataclass(frozen=True, slots=True)
class Done:
    """What an import has done, or would do."""

    created: int
    updated: int
    unchanged: int
    passed_over: tuple[str, ...] = ()


@router.get("/users/import")
@needs(Role.MANAGER)
async def import_page(
    request: Request,
    pool: PoolFilter,
    created: Count = None,
    updated: Count = 0,
    unchanged: Count = 0,
) -> Response:
    """`created` and the others: what the import did that led here."""
    done = None if created is None else Done(created, updated or 0, unchanged or 0)
    return _page(request, pool, Choices(), done=done)


def _choices(
    update: Annotated[bool, Form()] = False,
    login_column: Annotated[SearchText, Form()] = None,
    password_column: Annotated[SearchText, Form()] = None,
    totp_seed_column: Annotated[SearchText, Form()] = None,
) -> Choices:
    columns = {"login": login_column, "password": password_column, "totp_seed": totp_seed_column}
    return Choices(update, {field: column for field, column in columns.items() if column})


@router.post("/users/import")
@needs(Role.MANAGER)
async def import_file(
    farm: Farm,
    caller: Caller,
    request: Request,
    file: UploadFile,
    step: Annotated[Literal["check", "import"], Form()],
    choices: Annotated[Choices, Depends(_choices)],
    project: Annotated[SearchText, Form()] = None,
    env: Annotated[ShortName | None, Form()] = None,
    domain: Annotated[ShortName | None, Form()] = None,
) -> Response:
    """Creates all users of the file or, when a line is wrong, none. A check changes nothing in any case."""
    await still_admitted(request)  # the file may have taken long
    pool = await chosen_pool(farm, caller, project, env, domain)
    given = {"project": str(pool.project_id) if pool.project_id else None, "env": env, "domain": domain}
    reading = Reading({name: value for name, value in given.items() if value is not None}, choices.columns)
    name = file.filename or ""
    try:
        users = user_file(name, await file.read(), reading)
        lines = read_lines(users, reading, projects={each.name: str(each.id) for each in pool.projects})
        result = await farm.importing.import_users(
            caller, lines, on_error=choices.on_error, dry_run=step == "check"
        )
    except ImportRejectedError as error:
        return _page(request, pool, choices, name=name, rejected=error.details)
    except UserFileError as error:
        return _page(request, pool, choices, name=name, problem=str(error))
    done = Done(result.created, result.updated, result.unchanged, tuple(users.passed_over))
    if step == "check":
        return _page(request, pool, choices, name=name, done=done)
    further = f"&updated={done.updated}&unchanged={done.unchanged}" if choices.update else ""
    return see(f"{PAGE}?created={done.created}{further}")


def _page(
    request: Request,
    pool: ChosenPool,
    choices: Choices,
    *,
    done: Done | None = None,
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
        choices=choices,
        done=done,
        name=name,
        problem=problem,
        wrong_lines=len({each["line"] for each in errors}),
        errors=[
            (each["line"], each["field"], words_of(each["field"], each["code"], each.get("earlier_line")))
            for each in errors
        ],
        is_cut=len(errors) >= MAX_ERRORS,
    )
