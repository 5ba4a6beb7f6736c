"""The address of a caller behind proxies."""

from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address
from typing import Any, cast

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware


class ForwardedAddress:
    """uvicorn's reading of X-Forwarded-For, which takes any text for an address. Here only an IP address is one.

    Where a trusted proxy forwards anything else, the caller is the peer: the proxy itself.
    """

    def __init__(self, app: Any, trusted_proxies: Sequence[str]) -> None:
        self._app = app
        self._with_forwarded = ProxyHeadersMiddleware(cast("Any", self._checked), list(trusted_proxies))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        scope["peer"] = scope.get("client")
        await self._with_forwarded(scope, receive, send)

    async def _checked(self, scope: Any, receive: Any, send: Any) -> None:
        client = scope.get("client")
        if client != scope["peer"] and not _is_address(client[0]):
            scope["client"] = scope["peer"]
        await self._app(scope, receive, send)


def _is_address(text: str) -> bool:
    try:
        address = ip_address(text)
    except ValueError:
        return False
    # What follows a % may be any text: it names an interface of the machine that wrote it.
    return not (isinstance(address, IPv6Address) and address.scope_id)
