"""Label values of a request for metrics, bounded whatever its caller sends."""

from starlette.types import Scope

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def method_of(scope: Scope) -> str:
    method: str = scope["method"]
    return method if method in _METHODS else "OTHER"


def template_of(scope: Scope) -> str:
    """The route's path template, without the values of this request."""
    return getattr(scope.get("route"), "path", "unmatched")
