"""The bell of an open page: an event stream that says when something has changed, never what (decision 0052)."""

from collections.abc import AsyncIterator
from contextlib import suppress

from fastapi import Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from botfarm.domain.access import Principal, Role
from botfarm.errors import DatabaseUnavailableError, ShuttingDownError, UnauthenticatedError
from botfarm.services.access.credential_check import CredentialCheck
from botfarm.services.stock.farm_changes import Reader
from botfarm.web.http.dependencies import Caller, Farm
from botfarm.web.http.roles import needs
from botfarm.web.pages.page_routing import page_router

SIGN_OF_LIFE = 15.0
"""Seconds. Proxies end a connection that is silent for longer, the shortest of them after 30."""
RECONNECT_MS = 3_000

_HEADERS = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}

router = page_router()


@router.get("/changes")
@needs(Role.VIEWER)
async def changes(farm: Farm, caller: Caller) -> Response:
    """`changed` when the page may be out of date, `alive` when nothing was said for long.

    Ends with the session or the token, and when the process shuts down.
    """
    return ChangeStream(farm.farm_changes.subscribe(caller), farm.credential_check, caller)


class ChangeStream(StreamingResponse):
    def __init__(self, reader: Reader, credentials: CredentialCheck, caller: Principal) -> None:
        super().__init__(
            _events(reader, credentials, caller), media_type="text/event-stream", headers=_HEADERS
        )
        self._reader = reader

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._reader:  # also when the caller has hung up before the first event
            await super().__call__(scope, receive, send)


async def _events(reader: Reader, credentials: CredentialCheck, caller: Principal) -> AsyncIterator[str]:
    yield f"retry: {RECONNECT_MS}\n\n"
    while True:
        try:
            ring = await reader.next_ring(SIGN_OF_LIFE)
            with suppress(DatabaseUnavailableError):  # asked again by the next turn
                await credentials.check(caller)
        except (ShuttingDownError, UnauthenticatedError):
            return
        # An event where a comment would do, because a script cannot hear a comment, and so could not tell a silent
        # farm from a connection that is gone.
        yield "event: alive\ndata: 0\n\n" if ring is None else f"event: changed\ndata: {ring}\n\n"
