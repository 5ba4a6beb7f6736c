"""The address of a caller behind proxies."""

from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address
from typing import Any, cast

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware


class ForwardedAddress:
    """Reads X-Forwarded-For as uvicorn does, but takes only an IP address for an address.

    uvicorn takes any text. When a trusted proxy forwards anything else, the caller's address is that of the
    proxy.
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
    # A scope id (after %) may be any text, because it names an interface of the machine that wrote it.
    return not (isinstance(address, IPv6Address) and address.scope_id)
