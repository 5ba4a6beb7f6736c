"""For schemathesis, which knows nothing of JSON lines: see SCHEMATHESIS_HOOKS."""

import json
from typing import Any

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def one_line(context: Any, value: Any) -> bytes:  # noqa: ARG001  schemathesis calls it so
    return json.dumps(value).encode()
