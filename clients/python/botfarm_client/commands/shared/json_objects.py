import json
from typing import Any, Never


def json_object(text: str | bytes) -> dict[str, Any] | None:
    """None where it is no JSON object that can be sent: `NaN`, `1e400`, half a surrogate pair and endless depth cannot."""
    try:
        found = json.loads(text, parse_constant=_refuse)
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _refuse(constant: str) -> Never:
    raise ValueError(constant)
