"""For schemathesis: JSON lines, of which it knows nothing, and a second caller. See SCHEMATHESIS_HOOKS."""

import json
import os
from typing import Any

import requests
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
other = requests.Session()
other.trust_env = False  # it would look for proxies and passwords anew at each request


@schemathesis.serializer("application/x-ndjson")
def one_line(context: Any, value: Any) -> bytes:  # noqa: ARG001  schemathesis calls it so
    return json.dumps(value).encode()


@schemathesis.check
def second_caller_is_answered_as_documented(context: Any, response: Any, case: Any) -> None:  # noqa: ARG001
    """Sends the same request with another token. To make it takes far longer than to send it.

    `login` needs no token, and each wrong password delays the next one.
    """
    if case.operation.definition.raw["operationId"] != "login":
        headers = {"Authorization": f"Bearer {os.environ['SECOND_CALLER']}"}
        case.validate_response(case.call(session=other, headers=headers), checks=CHECKS)
