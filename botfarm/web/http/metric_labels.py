"""How metrics call a request: by names that are bounded, whatever its caller makes up."""

from starlette.types import Scope

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def method_of(scope: Scope) -> str:
    method: str = scope["method"]
    return method if method in _METHODS else "OTHER"


def template_of(scope: Scope) -> str:
    """Of the route: without what the caller has put into the path."""
    return getattr(scope.get("route"), "path", "unmatched")
