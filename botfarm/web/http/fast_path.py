"""The fast path: acquire, renew and release without the framework's layers around them.

Those layers (routing, dependencies, exit stacks, exception wrappers) cost several times what such an
operation does; see docs/decisions/0017. The fast path calls the same endpoint functions with the same models
and answers with the same problems. It takes only plain requests: no query, and a JSON body that has arrived
in one piece and fits the model. Every other request goes to the framework unchanged.
tests/integration/test_fast_path.py holds both ways to the same answers.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any, TypeVar, get_args, get_type_hints
from uuid import UUID

from fastapi import Request
from fastapi.exceptions import ResponseValidationError
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from botfarm.domain.access import Role
from botfarm.errors import BotfarmError
from botfarm.web.http.caller_connection import buffered_message
from botfarm.web.http.callers import admit
from botfarm.web.http.dependencies import is_idempotency_key
from botfarm.web.http.error_responses import problem_response, unfit_answer_response
from botfarm.web.http.routing import FarmRoute

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

_MARK = "__botfarm_fast_path__"


def fast_path(endpoint: Endpoint) -> Endpoint:
    """Marks an operation for the fast path. It may have a `lease_id` in its path, and takes `body`."""
    setattr(endpoint, _MARK, True)
    return endpoint


@dataclass(frozen=True, slots=True)
class _Operation:
    route: FarmRoute
    role: Role
    takes: frozenset[str]
    body: type[BaseModel]
    needs_body: bool
    media_type: bytes
    answer: TypeAdapter[Any]

    def is_plain(self, headers: Mapping[bytes, bytes]) -> bool:
        key = headers.get(b"idempotency-key")
        return (
            b"authorization" in headers
            and (key is None or is_idempotency_key(key))
            and (
                headers.get(b"content-type") == self.media_type
                or headers.get(b"content-length", b"0") == b"0"
            )
            and b"transfer-encoding" not in headers
        )

    def read(self, content: bytes) -> BaseModel | None:
        """Raises ValidationError."""
        return self.body.model_validate_json(content) if content or self.needs_body else None

    async def call(self, **available: object) -> Any:
        """Calls the endpoint with those of the arguments that it takes."""
        return await self.route.endpoint(**{name: available[name] for name in self.takes})

    def write(self, result: object) -> bytes:
        """Raises ResponseValidationError, as the framework does."""
        try:
            return self.answer.dump_json(self.answer.validate_python(result, from_attributes=True))
        except ValidationError as error:
            raise ResponseValidationError(error.errors(include_input=False)) from None


class FastPath:
    def __init__(self, routes: Iterable[object], *, framework: ASGIApp) -> None:
        self._framework = framework
        self._operations = {
            route.path: _operation(route)
            for route in routes
            if isinstance(route, FarmRoute) and hasattr(route.endpoint, _MARK)
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        operation, lease_id = self._find(scope)
        # Of a header that was sent twice the first one counts, as in the framework.
        headers = dict(reversed(scope["headers"])) if operation else {}
        message = buffered_message(receive) if operation and operation.is_plain(headers) else None
        if operation is None or message is None:
            await self._framework(scope, receive, send)
            return
        scope["route"] = operation.route
        request = Request(scope, receive)
        response = SimpleNamespace(status_code=operation.route.status_code or HTTPStatus.OK)
        try:
            await admit(request, operation.role)
            body = operation.read(_whole_body(message))
        except BotfarmError as error:
            await problem_response(request, error)(scope, receive, send)
            return
        except ValidationError:
            await self._framework(scope, _again(message, receive), send)
            return
        # From here on the framework must not get the request, because the operation would be done twice.
        try:
            content = operation.write(
                await operation.call(
                    farm=request.app.state.services,
                    caller=request.state.principal,
                    request=request,
                    response=response,
                    lease_id=lease_id,
                    idempotency_key=_key(headers),
                    body=body,
                )
            )
        except BotfarmError as error:
            await problem_response(request, error)(scope, receive, send)
        except ResponseValidationError as error:
            await unfit_answer_response(request, error)(scope, receive, send)
        else:
            start = [(b"content-type", operation.media_type), (b"content-length", b"%d" % len(content))]
            await send({"type": "http.response.start", "status": response.status_code, "headers": start})
            await send({"type": "http.response.body", "body": content})

    def _find(self, scope: Scope) -> tuple[_Operation | None, UUID | None]:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["query_string"]:
            return None, None
        path: str = scope["path"]
        plain = self._operations.get(path)
        if plain is not None:
            return plain, None
        collection, _, rest = path.rpartition("/leases/")
        text, _, verb = rest.partition("/")
        try:
            return self._operations.get(f"{collection}/leases/{{lease_id}}/{verb}"), UUID(text)
        except ValueError:
            return None, None


def _operation(route: FarmRoute) -> _Operation:
    assert route.role is not None  # noqa: S101  no public route is marked
    hint = get_type_hints(route.endpoint)["body"]
    (model,) = [
        each for each in (hint, *get_args(hint)) if inspect.isclass(each) and issubclass(each, BaseModel)
    ]
    return _Operation(
        route=route,
        role=route.role,
        takes=frozenset(inspect.signature(route.endpoint).parameters),
        body=model,
        needs_body=model is hint,
        media_type=route.media_type.encode(),
        answer=TypeAdapter(route.response_model),
    )


def _key(headers: Mapping[bytes, bytes]) -> str | None:
    key = headers.get(b"idempotency-key")
    return key.decode() if key else None


def _whole_body(message: Message) -> bytes:
    """Raises ValidationError for a body in several pieces, because the framework then takes the request."""
    if message["type"] != "http.request" or message.get("more_body"):
        raise ValidationError.from_exception_data("body", [])
    body: bytes = message.get("body", b"")
    return body


def _again(first: Message, receive: Receive) -> Receive:
    """Gives the message that was already received, then the rest."""
    messages = [first]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay
