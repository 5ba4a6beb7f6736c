from collections.abc import AsyncIterator
from typing import Literal

from fastapi import Request

from botfarm import errors
from botfarm.access import Role
from botfarm.domain import ImportResult, LineError, UserLine
from botfarm.web.callers import still_admitted
from botfarm.web.dependencies import Caller, Farm
from botfarm.web.json_lines import read_users
from botfarm.web.responses import ImportOut
from botfarm.web.roles import needs
from botfarm.web.routing import JSON_LINES, JsonLinesRoute, api_router, raises

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
    farm: Farm, caller: Caller, request: Request, on_error: Literal["fail", "skip"] = "fail"
) -> ImportResult:
    """Add many users at once: all of them or, unless errors are skipped, none."""
    lines = _lines_of_the_admitted(request)
    return await farm.importing.import_users(caller, lines, skip_errors=on_error == "skip")


async def _lines_of_the_admitted(request: Request) -> AsyncIterator[UserLine | LineError]:
    """Raises UnauthenticatedError after the last one when the caller has lost its token or session meanwhile."""
    async for line in read_users(request):
        yield line
    await still_admitted(request)
