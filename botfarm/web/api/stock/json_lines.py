"""Users as JSON lines, read from a request as they arrive."""

from collections.abc import AsyncIterator

from fastapi import Request
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import ClientDisconnect

from botfarm.domain.pools import Pool
from botfarm.domain.users import LineError, UserLine
from botfarm.errors import MalformedJsonError, TooLargeError
from botfarm.web.api.stock.user_requests import NewUser
from botfarm.web.http.error_responses import field_name

MAX_LINE_BYTES = 1_048_576
# Lines of an import, blank ones included. Its users are in memory until the last line has arrived, 1 to 2 KB
# each.
MAX_LINES = 100_000


async def read_users(request: Request) -> AsyncIterator[UserLine | LineError]:
    """Skips blank lines, but counts them. Raises TooLargeError for a line over 1 MiB or too many lines."""
    number = 0
    async for line in _lines(request):
        number += 1
        if number > MAX_LINES:
            raise too_many_lines()
        text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if text.strip():
            for parsed in parse_line(number, text):
                yield parsed


async def _lines(request: Request) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in _chunks(request):
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) > MAX_LINE_BYTES:
            raise TooLargeError
        for line in whole:
            yield line
    if rest:
        yield rest


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect:
        raise MalformedJsonError("The body did not arrive whole.") from None


def _code(error: ErrorDetails) -> str:
    """The most exact code, because an error of a line has no message."""
    return str(error.get("ctx", {}).get("code", error["type"]))


def too_many_lines() -> TooLargeError:
    return TooLargeError(f"An import has at most {MAX_LINES:,} lines: send several.")


def parse_line(number: int, line: bytes) -> list[UserLine | LineError]:
    """The user of one line of JSON, or all that is wrong with it."""
    try:
        new = NewUser.model_validate_json(line)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)
        return [LineError(number, field_name(each["loc"]), _code(each)) for each in found]
    password = new.password.get_secret_value()
    pool = Pool(new.project_id, new.env, new.domain)
    return [UserLine(number, new.login, password, pool, new.labels, new.secrets, new.plain_totp_seed)]
