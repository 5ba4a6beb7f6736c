from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Query, Request
from fastapi.responses import StreamingResponse
from pydantic import TypeAdapter

from botfarm import errors
from botfarm.domain.access import Role
from botfarm.domain.users import ImportResult, LineError, OnError, UserLine
from botfarm.web.api.stock.json_lines import read_users
from botfarm.web.api.stock.user_file_responses import ImportOut
from botfarm.web.http.callers import still_admitted
from botfarm.web.http.dependencies import Caller, Farm
from botfarm.web.http.roles import needs
from botfarm.web.http.routing import JSON_LINES, JsonLinesRoute, api_router, raises

OnErrorQuery = Annotated[OnError, Query(description="What is done where a line is wrong.")]
ERRORS = TypeAdapter(tuple[LineError, ...])
ERRORS_IN_A_PIECE = 1_000

router = api_router("users", route_class=JsonLinesRoute)

BODY = {
    "required": True,
    "description": "One user in each line, as `create_user` takes it; 100,000 lines and 64 MiB at most.",
    "content": {JSON_LINES: {"schema": {"$ref": "#/components/schemas/NewUser"}}},
}


@router.post(
    "/users/import",
    response_model=ImportOut,
    responses=raises(errors.ImportRejectedError, errors.SlowDownError, body=True),
    openapi_extra={"requestBody": BODY},
)
@needs(Role.MANAGER)
async def import_users(
    farm: Farm, caller: Caller, request: Request, on_error: OnErrorQuery = OnError.FAIL
) -> StreamingResponse:
    """Add many users at once: all of them or, unless errors are skipped, none.

    With `update` a user that is there gets the password, secrets, seed and labels of its line.
    """
    lines = _lines_of_the_admitted(request)
    imported = await farm.importing.import_users(caller, lines, on_error=on_error)
    return StreamingResponse(_in_pieces(imported), media_type="application/json")


async def _in_pieces(imported: ImportResult) -> AsyncIterator[bytes]:
    """Writes ImportOut in pieces.

    The errors of a repeated import are too many for one turn of the event loop.
    """
    counts = (imported.created, imported.updated, imported.unchanged, imported.skipped)
    yield b'{"created":%d,"updated":%d,"unchanged":%d,"skipped":%d,"errors":[' % counts
    for start in range(0, len(imported.errors), ERRORS_IN_A_PIECE):
        piece = ERRORS.dump_json(imported.errors[start : start + ERRORS_IN_A_PIECE], exclude_none=True)
        yield (b"," if start else b"") + piece[1:-1]
    yield b"]}"


async def _lines_of_the_admitted(request: Request) -> AsyncIterator[UserLine | LineError]:
    """Raises UnauthenticatedError after the last line when the token or session has ended meanwhile."""
    async for line in read_users(request):
        yield line
    await still_admitted(request)
