"""Reads a database URL as PostgreSQL's own clients do, and checks that asyncpg supports its parameters.

The parameters are those of libpq 18:
https://www.postgresql.org/docs/18/libpq-connect.html#LIBPQ-PARAMKEYWORDS
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

_SHAPE = (
    "must be postgresql://user:password@host:port/database, "
    "and in the password characters such as @ / ? # are written as %40 %2F %3F %23"
)
_HOST = re.compile(r"(\[[^\]]+\]|[^:\[\]]*)(?::(\d*))?")
_PORT = re.compile(r"[0-5]?\d{0,4}|6[0-4]\d{3}|65[0-4]\d\d|655[0-2]\d|6553[0-5]")
_NAME = re.compile(r"[a-z_]{1,40}")

_YES_OR_NO = ("0", "1")
_TLS_VERSIONS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
_VERIFIED = ("require", "verify-ca", "verify-full")
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "sslmode": ("disable", "allow", "prefer", *_VERIFIED),
    "sslnegotiation": ("postgres", "direct"),
    "ssl_min_protocol_version": _TLS_VERSIONS,
    "ssl_max_protocol_version": _TLS_VERSIONS,
    "target_session_attrs": ("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
    "load_balance_hosts": ("disable", "random"),
    "gsslib": ("gssapi", "sspi"),
    "keepalives": _YES_OR_NO,
    "sslcompression": _YES_OR_NO,
}
_NUMBERS = (
    "connect_timeout",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
)
# The largest value that Linux accepts, because every connection would fail with a larger one. Below 1 means
# the system's default.
_LARGEST: Mapping[str, int] = {
    "keepalives_idle": 32_767,
    "keepalives_interval": 32_767,
    "keepalives_count": 127,
}
_FILES = ("sslcert", "sslkey", "sslrootcert", "sslcrl")
_TEXTS = (
    "host",
    "port",
    "dbname",
    "user",
    "password",
    "passfile",
    "service",
    "options",
    "sslpassword",
    "krbsrvname",
)
# Ignored, because the farm sets the connection's name and encoding itself.
_WITHOUT_EFFECT = ("application_name", "fallback_application_name", "client_encoding", "sslcompression")
# Parameters that asyncpg does not support, with the values that make no difference.
_BEYOND_THE_DRIVER: Mapping[str, tuple[str, ...]] = {
    "channel_binding": ("disable", "prefer"),
    "gssencmode": ("disable", "prefer"),
    "gssdelegation": ("0",),
    "hostaddr": (),
    "max_protocol_version": ("3.0", "3.2", "latest"),
    "min_protocol_version": ("3.0",),
    "oauth_client_id": (),
    "oauth_client_secret": (),
    "oauth_issuer": (),
    "oauth_scope": (),
    "replication": ("0", "false", "no", "off"),
    "require_auth": (),
    "requirepeer": (),
    "scram_client_key": (),
    "scram_server_key": (),
    "servicefile": (),
    "sslcertmode": ("allow",),
    "sslcrldir": (),
    "sslkeylogfile": (),
    "sslsni": ("1",),
}
_INSTEAD: Mapping[str, str] = {
    "channel_binding": "; sslmode=verify-full&sslrootcert=system makes sure of the server",
    "hostaddr": "; name the address as the host",
    "require_auth": "; sslmode=verify-full makes sure of the server",
    "servicefile": "; set PGSERVICEFILE",
}
# Parameters that are left out of the URLs for asyncpg.
_NOT_FOR_THE_DRIVER = {
    *_WITHOUT_EFFECT,
    *_BEYOND_THE_DRIVER,
    *_NUMBERS,
    "host",
    "port",
    "keepalives",
    "load_balance_hosts",
}
_OF_TLS = ("sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl")
_TLS_LIMITS = ("ssl_min_protocol_version", "ssl_max_protocol_version")


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    hosts: tuple[str, ...]
    """One URL for asyncpg for each host, in the order of the hosts."""
    in_any_order: bool
    """Connect to the hosts in random order."""
    connect_timeout: float | None
    """Seconds for each host; None: no limit."""
    keepalive: Mapping[str, int]
    """The parameters of TCP by libpq's names; empty if the URL has none."""
    system_tls: Mapping[str, str] | None
    """The parameters of TLS by libpq's names for `sslrootcert=system`, which asyncpg does not support.

    Else None: asyncpg reads them from its URL.
    """


def read_database_url(url: str) -> DatabaseUrl:
    """Raises ValueError with one line that names the parameter and never shows a value."""
    parts = _split(url)
    parameters = _parameters(parts)
    _check(parameters)
    uses_system = parameters.get("sslrootcert") == "system"
    hidden = {*_NOT_FOR_THE_DRIVER, *((*_OF_TLS, *_TLS_LIMITS) if uses_system else ())}
    netlocs = _netlocs(parts, parameters)
    if netlocs == [parts.netloc] and "host" not in parameters:
        hidden.discard("port")  # the host is asyncpg's default
    kept = {name: value for name, value in parameters.items() if name not in hidden}
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in kept.items())
    timeout = int(parameters.get("connect_timeout", 0))
    return DatabaseUrl(
        tuple(urlunsplit(parts._replace(netloc=netloc, query=query)) for netloc in netlocs),
        in_any_order=parameters.get("load_balance_hosts") == "random",
        connect_timeout=timeout if timeout > 0 else None,
        keepalive={
            name: int(value)
            for name, value in parameters.items()
            if name.startswith(("keepalives", "tcp_user"))
        },
        system_tls=(
            {name: parameters[name] for name in (*_OF_TLS, *_TLS_LIMITS) if name in parameters}
            if uses_system
            else None
        ),
    )


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(_SHAPE) from None
    if parts.scheme not in {"postgresql", "postgres"} or parts.fragment or parts.netloc.count("@") > 1:
        raise ValueError(_SHAPE)
    return parts


def _parameters(parts: SplitResult) -> dict[str, str]:
    """The parameters of the query, without empty ones, which count as absent."""
    parameters = {}
    for field in parts.query.split("&") if parts.query else ():
        name, equals, value = (unquote(part) for part in field.partition("="))
        if name == "ssl" and value == "true":  # the spelling of JDBC, which libpq reads, too
            name, value = "sslmode", "require"
        if not equals or not _is_known(name):
            # An unknown name is shown only if it cannot be the rest of a password with a `?` in it.
            shown = (
                f"{name} is" if _NAME.fullmatch(name) and "@" not in parts.query else "a parameter after ? is"
            )
            raise ValueError(
                f"{shown} none of PostgreSQL's clients; "
                "a setting of the server goes into options=-c%20name=value"
            )
        if value:
            parameters[name] = value
    return parameters


def _is_known(name: str) -> bool:
    return name in {*_CHOICES, *_NUMBERS, *_FILES, *_TEXTS, *_WITHOUT_EFFECT, *_BEYOND_THE_DRIVER}


def _check(parameters: Mapping[str, str]) -> None:
    for name, value in parameters.items():
        harmless = _BEYOND_THE_DRIVER.get(name)
        if harmless is not None and value not in harmless:
            say = f", or say {' or '.join(harmless)}" if harmless else ""
            raise ValueError(
                f"{name} asks for what the driver cannot do: leave it out{say}{_INSTEAD.get(name, '')}"
            )
        if name in _CHOICES and value not in _CHOICES[name]:
            raise ValueError(f"{name} must be {', '.join(_CHOICES[name][:-1])} or {_CHOICES[name][-1]}")
        if name in _NUMBERS and not re.fullmatch(r"-?\d{1,9}", value):
            raise ValueError(f"{name} must be a whole number")
        if name in _LARGEST and int(value) > _LARGEST[name]:
            raise ValueError(f"{name} must be {_LARGEST[name]} at most")
    _check_tls(parameters)


def _check_tls(parameters: Mapping[str, str]) -> None:
    mode = parameters.get("sslmode")
    if parameters.get("sslrootcert") == "system" and mode not in {None, "verify-full"}:
        raise ValueError("sslrootcert=system needs sslmode=verify-full")
    used = (
        *(("sslcert", "sslkey") if mode != "disable" else ()),
        *(("sslrootcert", "sslcrl") if mode in _VERIFIED else ()),
    )
    for name in used:
        if parameters.get(name, "system") != "system" and not _is_file(parameters[name]):
            raise ValueError(f"{name} names a file that is not there, or that this process may not see")


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # no access to the folder, a name that is too long or has a NUL
        return False


def _netlocs(parts: SplitResult, parameters: Mapping[str, str]) -> list[str]:
    """The part before the path for each host. Hosts and ports of the query replace those before the path."""
    account, at, named = parts.netloc.rpartition("@")
    if not named and "host" not in parameters:
        return [parts.netloc]
    matches = [_HOST.fullmatch(each) for each in named.split(",")]
    if not all(matches):
        raise ValueError(_SHAPE)
    hosts = [match[1] for match in matches if match]
    ports = [match[2] or "" for match in matches if match]
    if "host" in parameters:
        hosts = [_in_netloc(host) for host in parameters["host"].split(",")]
    if "port" in parameters:
        ports = parameters["port"].split(",")
    if len(set(ports)) == 1:
        ports = ports[:1] * len(hosts)
    if len(ports) != len(hosts) or not all(_PORT.fullmatch(port) for port in ports):
        raise ValueError("port must be one number up to 65535, or one for each host")
    return [f"{account}{at}{host}{port and ':'}{port}" for host, port in zip(hosts, ports, strict=True)]


def _in_netloc(host: str) -> str:
    is_ipv6 = ":" in host and not host.startswith("/")
    return f"[{host}]" if is_ipv6 else quote(host, safe="")
