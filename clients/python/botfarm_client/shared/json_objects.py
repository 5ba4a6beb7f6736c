import json
from typing import Any, Never


def json_object(text: str | bytes) -> dict[str, Any] | None:
    """The JSON object of a text, or None if it is none that can be sent.

    `NaN`, `1e400`, half a surrogate pair and endless depth cannot be sent.
    """
    try:
        found = json.loads(text, parse_constant=_refuse)
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _refuse(constant: str) -> Never:
    raise ValueError(constant)
