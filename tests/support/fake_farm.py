"""The command line in this process, with a farm that answers as told and records its requests."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from botfarm_client.cli import app
from botfarm_client.commands.shared.command_errors import CommandError
from botfarm_client.connection.api_calls import API
from botfarm_client.connection.connection import Connection

PROJECT_ID = "11111111-1111-4111-8111-111111111111"
PROJECTS = {"GET /projects": {"items": [{"id": PROJECT_ID, "name": "shop"}]}}


@dataclass(frozen=True)
class Finished:
    exit_code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class FakeFarm:
    def __init__(self, answers: Mapping[str, object] = {}) -> None:
        """`answers`: a response or a document for each `METHOD /path`; None is 204."""
        self._answers = {**PROJECTS, **answers}
        self.requests: list[httpx.Request] = []

    def run(self, *arguments: str, stdin: str | bytes = "", exit_code: int = 0) -> Finished:
        connection = partial(Connection, transport=httpx.MockTransport(self._handle))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("botfarm_client.connection.connection.Connection", connection)
            environment = {"BOTFARM_TOKEN": "token", "COLUMNS": "200", "NO_COLOR": "1"}
            result = CliRunner().invoke(app, arguments, prog_name="botfarm", input=stdin, env=environment)
        code, err = result.exit_code, result.stderr
        if isinstance(result.exception, CommandError):
            code, err = result.exception.exit_code, f"{err}botfarm: {result.exception}\n"
        elif result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert code == exit_code, result.output + err
        return Finished(code, result.stdout, err)

    @property
    def asked(self) -> list[str]:
        return [_name(request) for request in self.requests]

    def body_of(self, name: str) -> Any:
        """The body of the only request of that name."""
        (request,) = [request for request in self.requests if _name(request) == name]
        return json.loads(request.content)

    def _handle(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        answer = self._answers[_name(request)]
        if isinstance(answer, httpx.Response):
            return answer
        return httpx.Response(204) if answer is None else httpx.Response(200, json=answer)


def problem(status: int, slug: str, detail: str = "It is so.", **details: object) -> httpx.Response:
    return httpx.Response(
        status, json={"type": f"urn:botfarm:problem:{slug}", "detail": detail, "status": status, **details}
    )


def _name(request: httpx.Request) -> str:
    return f"{request.method} {request.url.path.removeprefix(API)}"
