"""Errors as RFC 9457 problems: one row for each error, and the only file with status numbers and slugs."""

import math
import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from itertools import product
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError, ResponseValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict
from pydantic_core import to_jsonable_python
from starlette.exceptions import HTTPException

from botfarm import errors, metrics
from botfarm.domain.pools import SHORT_NAME
from botfarm.errors import BotfarmError, FieldError
from botfarm.logs import get_logger
from botfarm.web.http.metric_labels import method_of, template_of

logger = get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
# Matches field names and their misspellings, but not tokens, keys, seeds and most passwords.
_NAME = re.compile(r"[a-z][A-Za-z_-]{0,63}")
URN = "urn:botfarm:problem:"
# Field errors in one answer. A body of one megabyte with unknown fields would make an answer of ten
# megabytes.
MAX_FIELD_ERRORS = 100

PROBLEMS: Mapping[type[BotfarmError], tuple[int, str]] = {
    errors.MalformedJsonError: (400, "malformed-json"),
    errors.UnauthenticatedError: (401, "unauthenticated"),
    errors.ForbiddenError: (403, "forbidden"),
    errors.NotTheHolderError: (403, "not-the-holder"),
    errors.NoSuchProjectError: (404, "no-such-project"),
    errors.NoSuchUserError: (404, "no-such-user"),
    errors.NoSuchLeaseError: (404, "no-such-lease"),
    errors.NoSuchPoolError: (404, "no-such-pool"),
    errors.NoSuchTokenError: (404, "no-such-token"),
    errors.NoSuchTrustRuleError: (404, "no-such-trust-rule"),
    errors.NoSuchPageError: (404, "no-such-page"),
    errors.MethodNotAllowedError: (405, "method-not-allowed"),
    errors.ProjectExistsError: (409, "project-exists"),
    errors.ProjectInUseError: (409, "project-in-use"),
    errors.TrustRuleExistsError: (409, "trust-rule-exists"),
    errors.UserExistsError: (409, "user-exists"),
    errors.UserBusyError: (409, "user-busy"),
    errors.UserDirtyError: (409, "user-dirty"),
    errors.UserQuarantinedError: (409, "user-quarantined"),
    errors.UserRetiredError: (409, "user-retired"),
    errors.RotationPendingError: (409, "rotation-pending"),
    errors.NoRotationError: (409, "no-rotation"),
    errors.ChangedMeanwhileError: (409, "changed-meanwhile"),
    errors.PoolExhaustedError: (409, "pool-exhausted"),
    errors.CallerGoneError: (409, "pool-exhausted"),
    errors.PoolTooSmallError: (409, "pool-too-small"),
    errors.IdempotencyKeyEndedError: (409, "idempotency-key-ended"),
    errors.WaitSupersededError: (409, "wait-superseded"),
    errors.LeaseIdRequiredError: (409, "lease-id-required"),
    errors.UseReleaseLeaseError: (409, "use-release-lease"),
    errors.LeaseLapsedError: (410, "lease-lapsed"),
    errors.TooLargeError: (413, "too-large"),
    errors.UnsupportedMediaTypeError: (415, "unsupported-media-type"),
    errors.InvalidRequestError: (422, "invalid-request"),
    errors.ImportRejectedError: (422, "invalid-request"),
    errors.IdempotencyKeyReusedError: (422, "idempotency-key-reused"),
    errors.QuotaExceededError: (429, "quota-exceeded"),
    errors.TooManyWaitersError: (429, "too-many-waiters"),
    errors.SlowDownError: (429, "slow-down"),
    errors.InternalError: (500, "internal"),
    errors.DatabaseUnavailableError: (503, "database-unavailable"),
    errors.ConnectionsBusyError: (503, "database-unavailable"),
    errors.UnknownPoolerError: (503, "database-unavailable"),
    errors.KeyMissingError: (503, "database-unavailable"),
    errors.ShuttingDownError: (503, "shutting-down"),
}

# Statuses that the framework answers by itself, before or in place of a route.
_OF_THE_FRAMEWORK: Mapping[int, type[BotfarmError]] = {
    400: errors.MalformedJsonError,
    404: errors.NoSuchPageError,
    405: errors.MethodNotAllowedError,
}


class BodyRefusedError(HTTPException):
    """Raised while a body is received, as an HTTPException, because FastAPI lets only that through."""

    def __init__(self, error: BotfarmError) -> None:
        super().__init__(PROBLEMS[type(error)][0])
        self.error = error


class Problem(BaseModel):
    """An RFC 9457 problem. Compare `type`, which never changes for an error; show `detail` to people."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    request_id: str


def documented(*kinds: type[BotfarmError]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may raise these errors, for the OpenAPI document."""
    slugs: dict[int, list[str]] = {}
    for kind in kinds:
        status, slug = PROBLEMS[kind]
        slugs.setdefault(status, []).append(slug)
    return {status: {"model": Problem, "description": ", ".join(names)} for status, names in slugs.items()}


def problem_of(request: Request, error: BotfarmError) -> dict[str, Any]:
    """The fields of a problem that is answered, and counts it."""
    status, slug = PROBLEMS[type(error)]
    metrics.problems_total.labels(method_of(request.scope), template_of(request.scope), slug).inc()
    return {
        "type": f"{URN}{slug}",
        "title": slug.replace("-", " ").capitalize(),
        "status": status,
        "detail": error.detail,
        **error.details,
        "request_id": request.state.request_id,
    }


def problem_response(request: Request, error: BotfarmError) -> Response:
    problem = problem_of(request, error)
    content = to_jsonable_python(problem)
    return JSONResponse(
        content, status_code=problem["status"], media_type=MEDIA_TYPE, headers=problem_headers(error)
    )


def unfit_answer_response(request: Request, error: ResponseValidationError) -> Response:
    """Logs fields and codes only, because the error's text quotes the values."""
    wrong = [f"{field_name(each['loc'])}: {each['type']}" for each in error.errors()]
    logger.error("internal error", answer_does_not_fit=wrong)
    return problem_response(request, errors.InternalError())


def show_faults_of(routes: Iterable[object]) -> None:
    """Creates the series with zeros, because `rate` misses the first event of a series that is new."""
    faults = {slug for status, slug in PROBLEMS.values() if status >= HTTPStatus.INTERNAL_SERVER_ERROR}
    for route in routes:
        if isinstance(route, APIRoute):
            for method, slug in product(route.methods or (), faults):
                metrics.problems_total.labels(method, route.path, slug)


def add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(Exception)
    async def of_a_crash(request: Request, _: Exception) -> Response:
        return problem_response(request, errors.InternalError())

    @app.exception_handler(BotfarmError)
    async def of_the_farm(request: Request, error: BotfarmError) -> Response:
        return problem_response(request, error)

    @app.exception_handler(RequestValidationError)
    async def of_validation(request: Request, error: RequestValidationError) -> Response:
        return problem_response(request, invalid_request(error))

    @app.exception_handler(ResponseValidationError)
    async def of_our_own_answer(request: Request, error: ResponseValidationError) -> Response:
        return unfit_answer_response(request, error)

    @app.exception_handler(HTTPException)
    async def of_the_framework(request: Request, error: HTTPException) -> Response:
        if isinstance(error, BodyRefusedError):
            return problem_response(request, error.error)
        response = problem_response(request, _OF_THE_FRAMEWORK.get(error.status_code, errors.InternalError)())
        response.headers.update(error.headers or {})
        return response


_SHORT_NAME = "must be 1 to 32 of a-z, 0-9, dot, dash and underscore, the first a letter or digit"
_PATTERNS = {
    f"^{SHORT_NAME}$": _SHORT_NAME,
    rf"^({SHORT_NAME}|\*)$": f"{_SHORT_NAME}, or * for all",
    "^[A-Za-z0-9._-]{1,64}$": "must be 1 to 64 letters, digits, dots, dashes and underscores",
}


def problem_headers(error: BotfarmError) -> dict[str, str]:
    match error:
        case errors.UnauthenticatedError():
            return {"WWW-Authenticate": "Bearer"}
        case errors.PoolExhaustedError():
            due = error.details.get("next_free_in")
            return {"Retry-After": str(max(1, min(60, math.ceil(due))) if isinstance(due, float) else 60)}
        case errors.SlowDownError():
            return {"Retry-After": str(error.details["retry_after"])}
        case errors.UnavailableError() | errors.TooManyWaitersError():
            return {"Retry-After": "1"}
        case _:
            return {}


def invalid_request(error: RequestValidationError) -> BotfarmError:
    """Field, code and message of each error: never `input` and `ctx`, where Pydantic keeps the values."""
    found = error.errors()
    if any(each["type"] == "json_invalid" for each in found):
        return errors.MalformedJsonError()
    return errors.InvalidRequestError(
        *(
            FieldError(field_name(each["loc"][1:] or each["loc"]), str(each["type"]), _message(each))
            for each in found[:MAX_FIELD_ERRORS]
        )
    )


def _message(error: Mapping[str, Any]) -> str:
    """Without the character that Pydantic quotes, with patterns in words, and of a text not as of a list."""
    match error:
        case {"type": "uuid_parsing"}:
            return "Input should be a valid UUID"
        case {"ctx": {"pattern": pattern}} if pattern in _PATTERNS:
            return _PATTERNS[pattern]
        case {"type": "too_short", "input": str()}:
            return "must not be empty"
        case {"type": "too_long", "input": str(), "ctx": {"max_length": most}}:
            return f"must be at most {most} characters long"
        case _:
            return str(error["msg"])


def field_name(location: tuple[int | str, ...]) -> str:
    """The path of a field.

    A part that does not look like a name becomes a question mark, because the caller may have put a secret
    there.
    """
    return ".".join(str(part) if isinstance(part, int) or _NAME.fullmatch(part) else "?" for part in location)
