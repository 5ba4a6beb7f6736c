"""The HTTP proxy that the environment names for one farm.

httpx reads every proxy variable when a client is made, and fails on those that are for other hosts. Here only
the variable counts that is for this farm. As with curl, a farm on this machine gets no special treatment:
NO_PROXY excludes it, or it is reached through the proxy.
"""

import os
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from urllib.request import getproxies, proxy_bypass

import httpx
from typing_extensions import override

from botfarm_client.errors import SettingError
from botfarm_client.shared.text_input import stripped

DEFAULT_PORTS = {"http": 80, "https": 443}
_HIGHEST_PORT = 65_535


@dataclass(frozen=True)
class Proxy:
    variable: str
    """The variable that names it."""
    scheme: str
    """`http`, or `https` where the connection to the proxy itself is encrypted."""
    host: str
    port: int
    authorization: bytes | None = field(default=None, repr=False)
    """The value of Proxy-Authorization."""

    @override
    def __str__(self) -> str:
        """`http://proxy.test:3128 (HTTPS_PROXY)`, without credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port} ({self.variable})"


def names_server(url: httpx.URL) -> bool:
    """Whether the URL has the scheme and the host of an HTTP server.

    A `%` in the host is an invalid character that httpx has encoded.
    """
    has_host = bool(url.raw_host) and b"%" not in url.raw_host
    has_port = url.port is None or 1 <= url.port <= _HIGHEST_PORT
    return url.scheme in DEFAULT_PORTS and has_host and has_port


def proxy_for(farm: httpx.URL) -> Proxy | None:
    """Raises SettingError, which names the variable and never repeats its value."""
    host, port = farm.raw_host.decode(), farm.port or DEFAULT_PORTS[farm.scheme]
    proxies = {name: text for name, value in getproxies().items() if (text := stripped(value))}
    key = farm.scheme if farm.scheme in proxies else "all"
    if key not in proxies or _is_excluded(host, port, proxies.get("no", "")):
        return None
    return _parsed(proxies[key], variable=_variable(f"{key}_proxy"), farm_host=host)


def _variable(name: str) -> str:
    """The variable's name as the environment spells it. The lower-case spelling takes precedence."""
    spellings = [each for each in (name, *os.environ) if each.lower() == name and os.environ.get(each)]
    return spellings[0] if spellings else f"{name.upper()} of the system's settings"


def _parsed(value: str, *, variable: str, farm_host: str) -> Proxy:
    scheme, separator, rest = value.rpartition("://")
    scheme = scheme.lower() if separator else "http"
    if scheme.startswith("socks"):
        raise SettingError(
            f"{variable} names a SOCKS proxy, and the client knows HTTP proxies only: "
            f"set NO_PROXY={farm_host} if the farm is reached without a proxy"
        )
    try:
        url = httpx.URL(f"{scheme}://{rest}")
        url.host.encode("idna")  # as the resolver does
    except (httpx.InvalidURL, UnicodeError):
        url = httpx.URL()
    # An unencoded slash in a password ends the URL's authority too early.
    is_cut = "@" in f"{url.path}{url.query.decode()}{url.fragment}"
    if not names_server(url) or is_cut:
        raise SettingError(
            f"{variable} is not the URL of an HTTP proxy: it must be like http://proxy.test:3128, "
            "and special characters of a user name or password are percent-encoded, a slash as %2F"
        )
    login = f"{url.username}:{url.password}".encode()
    return Proxy(
        variable=variable,
        scheme=scheme,
        host=url.raw_host.decode(),
        port=url.port or DEFAULT_PORTS[scheme],
        authorization=b"Basic " + b64encode(login) if url.userinfo else None,
    )


def _is_excluded(host: str, port: int, no_proxy: str) -> bool:
    """Whether `no_proxy` excludes the host.

    It lists names (with their subdomains), addresses, networks and `*`, each with an optional port.
    """
    if proxy_bypass(f"{host}:{port}"):  # which also knows the exceptions of macOS and Windows
        return True
    return any(_matches(entry, host.rstrip("."), port) for entry in _entries(no_proxy))


def _entries(no_proxy: str) -> Iterator[str]:
    for entry in no_proxy.replace(",", " ").split():
        yield entry.lower().rpartition("://")[2]


def _matches(entry: str, host: str, port: int) -> bool:
    if _matches_host(entry, host):
        return True
    name, colon, of_port = entry.rpartition(":")
    return bool(colon) and of_port == str(port) and _matches_host(name, host)


def _matches_host(entry: str, host: str) -> bool:
    with suppress(ValueError):
        network = ip_network(entry.strip("[]"), strict=False)
        with suppress(ValueError):
            return ip_address(host) in network
        return False
    name = entry.removeprefix("*").strip(".")
    return entry == "*" or (bool(name) and (host == name or host.endswith(f".{name}")))
