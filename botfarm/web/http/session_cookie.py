"""The session cookie of operators, and the check that a request comes from the farm's page (0013)."""

from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from fastapi import Request, Response

from botfarm.errors import ForbiddenError
from botfarm.services.access.sessions import Badge

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OURS = frozenset({"same-origin", "none"})
_PORTS = {"http": 80, "https": 443}


class SessionCookie:
    def __init__(self, *, insecure: bool, port: int) -> None:
        """`insecure` means over plain http, because a browser accepts a `__Host-` cookie only over https.

        Browsers send a host's cookies to all of its ports. With the port in the name, two farms on one
        machine neither overwrite nor accept each other's cookie.
        """
        self.is_secure = not insecure
        self.name = f"botfarm-{port}" if insecure else "__Host-botfarm"

    def read(self, request: Request) -> str | None:
        return request.cookies.get(self.name)

    def set(self, response: Response, badge: Badge) -> None:
        response.set_cookie(
            self.name,
            badge.jwt,
            max_age=int(badge.lasts),
            path="/",
            secure=self.is_secure,
            httponly=True,
            samesite="strict",
        )

    def clear(self, response: Response) -> None:
        response.delete_cookie(self.name, path="/", secure=self.is_secure, httponly=True, samesite="strict")


def require_same_origin(request: Request) -> None:
    """Raises ForbiddenError for a change that the page of another site asks for.

    For requests that a cookie authenticates.
    """
    if request.method in _SAFE_METHODS:
        return
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        is_ours = site in _OURS
    else:  # an old browser, or a client that is none and sends neither header
        ours = f"{request.scope['scheme']}://{request.headers.get('host', '')}"
        is_ours = origin is None or _is_same_origin(origin, ours)
    if not is_ours:
        raise ForbiddenError(
            "A page of another site asked for this, and a session is for the farm's own pages."
        )


def _is_same_origin(one: str, other: str) -> bool:
    try:
        origin = _origin(urlsplit(one))
        return origin.host is not None and origin == _origin(urlsplit(other))
    except ValueError:
        return False


class _Origin(NamedTuple):
    scheme: str
    host: str | None
    port: int | None


def _origin(parts: SplitResult) -> _Origin:
    return _Origin(parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme))
