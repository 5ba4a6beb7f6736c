"""Checks that an answer is a lease or a user: another server at the farm's address may answer with a 200."""

from collections.abc import Mapping

from botfarm_client.connection.api_calls import Json
from botfarm_client.errors import UnexpectedAnswerError

FieldTypes = Mapping[str, type | tuple[type, ...]]

_GRANT: FieldTypes = {"id": str, "expires_in": (int, float)}
_TERMS: FieldTypes = {"expires_in": (int, float), "expires_at": str, "hold_until": str}
_LEASE: FieldTypes = {**_GRANT, **_TERMS, "fence": int, "users": list}
_USER: FieldTypes = {"id": str, "login": str, "password": str, "labels": dict}


def granted_lease(answer: Json) -> Json:
    """Checks the fields that showing or releasing a lease needs. Raises UnexpectedAnswerError."""
    __tracebackhide__ = True  # pytest would show the arguments
    return _require(answer, _GRANT, "lease")


def held_lease(answer: Json) -> Json:
    """Checks a lease together with the credentials of its users. Raises UnexpectedAnswerError."""
    __tracebackhide__ = True
    _require(answer, _LEASE, "lease")
    for user in answer["users"]:
        held_user(user)
    return answer


def renewed_lease(answer: Json) -> Json:
    """Raises UnexpectedAnswerError."""
    __tracebackhide__ = True
    return _require(answer, _TERMS, "lease")


def held_user(answer: Json) -> Json:
    """Raises UnexpectedAnswerError."""
    __tracebackhide__ = True
    return _require(answer, _USER, "user")


def pending_password(answer: Json) -> str:
    """Raises UnexpectedAnswerError."""
    __tracebackhide__ = True
    return str(_require(answer, {"pending_password": str}, "rotation")["pending_password"])


def one_time_code(answer: Json) -> str:
    """Raises UnexpectedAnswerError."""
    __tracebackhide__ = True
    return str(_require(answer, {"code": str}, "one-time code")["code"])


def _require(document: object, kinds: FieldTypes, what: str) -> Json:
    """Raises UnexpectedAnswerError, which names the missing fields and repeats no value."""
    __tracebackhide__ = True
    found: Json = document if isinstance(document, dict) else {}
    missing = [name for name, kind in kinds.items() if not isinstance(found.get(name), kind)]
    if missing:
        raise UnexpectedAnswerError(
            f"what answers is no farm, its {what} has no {', '.join(missing)}: check BOTFARM_URL"
        )
    return found
