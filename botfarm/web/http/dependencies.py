import re
from typing import Annotated

from fastapi import Depends, Header, Query, Request, Security
from fastapi.security import APIKeyCookie, HTTPBearer

from botfarm.domain.access import Principal
from botfarm.runtime.services import Services

# Only for the OpenAPI document, because FarmRoute has identified the caller before dependencies run.
bearer = Security(HTTPBearer(auto_error=False, description="An API token."))
session = Security(
    APIKeyCookie(name="__Host-botfarm", auto_error=False, description="An operator's session, from `login`.")
)

MAX_PAGE = 1_000
_KEY_CHARACTER, _MAX_KEY = r"[\x20-\x7e]", 255
_KEY = re.compile(f"{_KEY_CHARACTER}{{1,{_MAX_KEY}}}".encode())

# Coroutines, though they await nothing, because FastAPI runs plain functions in threads, which costs more.


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def _principal(request: Request) -> Principal:
    principal: Principal = request.state.principal
    return principal


async def _limit(
    limit: Annotated[int, Query(ge=1, description=f"More than {MAX_PAGE} is taken as {MAX_PAGE}.")] = 100,
) -> int:
    return min(limit, MAX_PAGE)


Farm = Annotated[Services, Depends(_services)]
Caller = Annotated[Principal, Depends(_principal)]
Limit = Annotated[int, Depends(_limit)]
Cursor = Annotated[str | None, Query(max_length=512, description="`next_cursor` of the page before.")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=_MAX_KEY,
        pattern=f"^{_KEY_CHARACTER}+$",
        description="Makes a retry safe: the same key gets the same live lease, never a second one.",
    ),
]


def is_idempotency_key(header: bytes) -> bool:
    """Whether `IdempotencyKey` accepts this header."""
    return _KEY.fullmatch(header) is not None
