"""How requests reach one farm: directly or through a proxy, and which certificates TLS trusts.

The environment is read once.
"""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import certifi
import httpx
from httpcore import URL, Origin, Request

from botfarm_client.connection.proxies import DEFAULT_PORTS, Proxy, proxy_for
from botfarm_client.errors import SettingError
from botfarm_client.shared.text_input import variable


@dataclass(frozen=True)
class Route:
    farm: Origin
    farm_tls: ssl.SSLContext | None = field(repr=False)
    """None where the farm speaks plain HTTP."""
    proxy: Proxy | None
    proxy_tls: ssl.SSLContext | None = field(repr=False)

    @classmethod
    def to(cls, url: str) -> Self:
        """Raises SettingError, which names the variable and never repeats its value."""
        farm = httpx.URL(url)
        proxy = proxy_for(farm)
        is_encrypted, is_proxy_encrypted = farm.scheme == "https", bool(proxy and proxy.scheme == "https")
        context = tls_context() if is_encrypted or is_proxy_encrypted else None
        return cls(
            farm=Origin(farm.raw_scheme, farm.raw_host, farm.port or DEFAULT_PORTS[farm.scheme]),
            farm_tls=context if is_encrypted else None,
            proxy=proxy,
            proxy_tls=context if is_proxy_encrypted else None,
        )

    @property
    def first_hop(self) -> Origin:
        """The host and port that a connection is made to."""
        if self.proxy is None:
            return self.farm
        return Origin(self.proxy.scheme.encode(), self.proxy.host.encode(), self.proxy.port)

    @property
    def is_tunnelled(self) -> bool:
        """Whether the proxy only passes encrypted bytes on."""
        return self.proxy is not None and self.farm_tls is not None

    @property
    def peer(self) -> Origin:
        """The server that reads the requests: the farm, or a proxy that forwards them."""
        return self.farm if self.is_tunnelled else self.first_hop

    @property
    def description(self) -> str:
        """For messages, after the farm's URL."""
        return "" if self.proxy is None else f" through the proxy {self.proxy}"

    def request(self, request: httpx.Request) -> Request:
        headers, target = request.headers.raw, request.url.raw_path
        if self.proxy is not None and not self.is_tunnelled:
            headers = [*headers, *self._proxy_headers()]
            target = b"%b://%b%b" % (self.farm.scheme, request.url.netloc, target)
        return Request(
            request.method,
            _at(self.peer, target),
            headers=headers,
            content=request.stream,
            extensions={"timeout": timeouts_of(request)},
        )

    def tunnelling(self, timeout: float | None) -> Request:
        """The request for a tunnel to the farm, for the proxy."""
        host = self.farm.host if b":" not in self.farm.host else b"[%b]" % self.farm.host
        target = b"%b:%d" % (host, self.farm.port)
        return Request(
            "CONNECT",
            _at(self.first_hop, target),
            headers=[(b"Host", target), *self._proxy_headers()],
            extensions={"timeout": {"read": timeout, "write": timeout}},
        )

    def _proxy_headers(self) -> list[tuple[bytes, bytes]]:
        if self.proxy is None or self.proxy.authorization is None:
            return []
        return [(b"Proxy-Authorization", self.proxy.authorization)]


def timeouts_of(request: httpx.Request) -> dict[str, float | None]:
    """The timeouts `connect`, `read` and `write`, in seconds."""
    timeouts: dict[str, float | None] = request.extensions["timeout"]
    return timeouts


def tls_context() -> ssl.SSLContext:
    """Trusts SSL_CERT_FILE, else SSL_CERT_DIR, else certifi, as httpx does. Raises SettingError."""
    file, folders = variable("SSL_CERT_FILE"), variable("SSL_CERT_DIR")
    if file:
        folders = None
        with _readable("SSL_CERT_FILE"):
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    elif folders:
        if not any(Path(folder).is_dir() for folder in folders.split(os.pathsep)):
            raise SettingError("SSL_CERT_DIR names no folder that is there")
    else:
        file = certifi.where()
    with _readable("SSLKEYLOGFILE"):
        context = ssl.create_default_context(cafile=file, capath=folders)
    context.set_alpn_protocols(["http/1.1"])
    return context


@contextmanager
def _readable(name: str) -> Iterator[None]:
    try:
        yield
    except ssl.SSLError:
        raise SettingError(f"{name} names a file that holds no certificate") from None
    except OSError as error:
        raise SettingError(f"cannot use the file of {name}: {error.strerror}") from None


def _at(origin: Origin, target: bytes) -> URL:
    return URL(scheme=origin.scheme, host=origin.host, port=origin.port, target=target)
