"""All settings: environment variables `BOTFARM_*`, or files of these names in `BOTFARM_SECRETS_DIR`."""

import os
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings import SettingsError as SettingsSourceError

from botfarm.database_urls import read_database_url
from botfarm.group_roles import parse_group_roles
from botfarm_client.shared.text_input import stripped

PREFIX = "BOTFARM_"
MIN_TOKEN_LENGTH = 24
Port = Annotated[int, Field(ge=0, le=65_535)]


class SettingsError(Exception):
    """One line for each setting that cannot work, without its value, which may be a secret."""


def default_data_dir() -> Path:
    return Path("/var/lib/botfarm") if os.geteuid() == 0 else Path.home() / ".local/share/botfarm"


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True, env_ignore_empty=True)

    host: str = Field("127.0.0.1", description="Address the API listens on.")
    port: Port = Field(8000, description="Port of the API; 0 takes a free one.")
    metrics_port: Port | None = Field(None, description="Port of /metrics; unset: on the API's own port.")
    worker_host: str = Field("127.0.0.1", description="Address of the worker's probes and metrics.")
    worker_port: Port = Field(
        8001, description="Port of the worker's probes and metrics; 0 takes a free one."
    )
    database_url: SecretStr | None = Field(None, description="postgresql://user:password@host:port/database")
    owner_url: SecretStr | None = Field(
        None,
        description="The database URL of the role that owns the tables, for migrate and after-restore; "
        "unset: the database URL. Not through a pooler.",
    )
    database_pool_size: int = Field(10, ge=1, le=200, description="Connections of one process, at most.")
    db_pooler: Literal["none", "transaction"] = Field(
        "none", description="transaction: the database is reached through PgBouncer in transaction mode."
    )
    encryption_keys: SecretStr = Field(
        SecretStr(""), description="Ring of keys, id:base64 separated by commas; the first one encrypts."
    )
    bootstrap_token: SecretStr | None = Field(
        None,
        description="A token of role admin, valid while set: 24 or more printable characters, no spaces.",
    )
    cookie_insecure: bool = Field(
        False, description="Sign operators in over plain http; on a loopback host only."
    )
    trusted_proxies: str = Field(
        "", description="Addresses and networks whose X-Forwarded-For is believed, separated by commas."
    )
    public_url: str | None = Field(
        None,
        description="Address that people and runs of a CI have for the API, such as https://botfarm.example; "
        "identity tokens of a CI must name it as their audience.",
    )
    oidc_keys_dir: Path | None = Field(
        None,
        description="Folder with a JWKS for each issuer of identity tokens that cannot be reached, "
        "named <host of the issuer>.json.",
    )
    oidc_issuer: str | None = Field(
        None, description="Provider at which people sign in (OpenID Connect), such as https://login.example."
    )
    oidc_client_id: str | None = Field(None, description="The farm's id at the provider.")
    oidc_client_secret: SecretStr | None = Field(None, description="Its secret; unset: PKCE alone.")
    oidc_name: str = Field("your company's account", description="What the button says after `Sign in with`.")
    oidc_scopes: str = Field("openid profile email", description="Scopes that are asked for.")
    oidc_claim: str = Field("groups", description="Claim of the ID token with a person's groups.")
    oidc_roles: str = Field(
        "",
        validate_default=True,
        description="Roles by group; the first that fits counts: `qa-leads=manager:shop/*; *=viewer`.",
    )
    data_dir: Path = Field(default_factory=default_data_dir, description="Folder of `botfarm dev`.")
    coalescing: bool = Field(
        True, description="Serve requests that arrive while a statement is in flight with one statement."
    )
    max_wait: int = Field(50, ge=0, le=300, description="Longest wait of one acquire request, seconds.")
    max_waiters: int = Field(
        2_000, ge=1, le=100_000, description="Requests that wait at one process, at most."
    )
    listen_url: SecretStr | None = Field(
        None, description="Where to listen for NOTIFY; unset: at the database URL. Not through a pooler."
    )
    notify: bool = Field(
        True, validate_default=True, description="Wake waiting requests; off: they check every second."
    )
    history_days: int = Field(365, ge=1, description="Days that ended leases are kept.")
    reap_interval: float = Field(5, gt=0, le=60, description="Seconds between two checks for expired leases.")
    gauges_interval: float = Field(
        10, gt=0, le=60, description="Seconds between two refreshes of the gauges."
    )
    log_level: str = Field(
        "INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Lowest level that is logged."
    )

    @field_validator("*", mode="before")
    @classmethod
    def _stripped(cls, value: Any) -> Any:
        """Removes line ends, blanks and byte order marks that editors and forms leave around a value.

        No setting needs them.
        """
        return stripped(value) if isinstance(value, str) else value

    @field_validator("log_level", mode="before")
    @classmethod
    def _capitals(cls, level: Any) -> Any:
        return level.upper() if isinstance(level, str) else level

    @field_validator("bootstrap_token")
    @classmethod
    def _long_enough(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None:
            text = token.get_secret_value()
            if len(text) < MIN_TOKEN_LENGTH or not text.isascii() or not text.isprintable() or " " in text:
                raise ValueError("must be 24 or more printable ASCII characters without spaces")
        return token

    @field_validator("cookie_insecure")
    @classmethod
    def _on_loopback(cls, insecure: bool, info: ValidationInfo) -> bool:
        if insecure and not is_loopback(info.data.get("host", "")):
            raise ValueError(
                "only with BOTFARM_HOST on loopback: elsewhere a session must not go over plain http"
            )
        return insecure

    @field_validator("notify")
    @classmethod
    def _past_the_pooler(cls, notify: bool, info: ValidationInfo) -> bool:
        if notify and info.data.get("db_pooler") == "transaction" and info.data.get("listen_url") is None:
            raise ValueError(
                "with BOTFARM_DB_POOLER=transaction set BOTFARM_LISTEN_URL, past the pooler, or this to off"
            )
        return notify

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, proxies: str) -> str:
        try:
            _parse_networks(proxies)
        except ValueError:
            raise ValueError(
                "must be addresses or networks such as 10.0.0.0/8, separated by commas"
            ) from None
        return proxies

    @field_validator("public_url")
    @classmethod
    def _an_address(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        is_plain = (
            not (parts.query or parts.fragment or "@" in parts.netloc or " " in url) and parts.port != 0
        )
        is_safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
        if not (parts.hostname and is_plain and is_safe and url.isascii()):
            raise ValueError(
                "must be https://host, with a port or path if there is one, and nothing behind it"
            )
        return url.rstrip("/")

    @field_validator("oidc_keys_dir")
    @classmethod
    def _a_folder(cls, folder: Path | None) -> Path | None:
        if folder is not None and not folder.is_dir():
            raise ValueError("there is no such folder")
        return folder

    @field_validator("oidc_issuer")
    @classmethod
    def _an_issuer(cls, issuer: str | None) -> str | None:
        if issuer is not None and not (issuer.startswith("https://") and urlsplit(issuer).hostname):
            raise ValueError("must begin with https://")
        return issuer

    @field_validator("oidc_roles")
    @classmethod
    def _roles_of_groups(cls, roles: str, info: ValidationInfo) -> str:
        entries = parse_group_roles(roles)
        if info.data.get("oidc_issuer") is None:
            return roles
        missing = [name for name in ("public_url", "oidc_client_id") if not info.data.get(name)]
        if missing:
            raise ValueError(f"single sign-on needs {PREFIX}{missing[0].upper()}, too")
        if "openid" not in info.data.get("oidc_scopes", "openid").split():
            raise ValueError(f"without `openid` in {PREFIX}OIDC_SCOPES the provider says nothing of a person")
        if not entries:
            raise ValueError("without a role nobody can sign in: `qa-leads=manager:shop/*; *=viewer`")
        return roles

    @field_validator("database_url", "owner_url", "listen_url")
    @classmethod
    def _postgresql(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            read_database_url(url.get_secret_value())
        return url

    def trusted_networks(self) -> list[str]:
        """The trusted networks; those of IPv4 also as a dual-stack socket shows their addresses."""
        networks = _parse_networks(self.trusted_proxies)
        mapped = [
            f"::ffff:{network.network_address}/{96 + network.prefixlen}"
            for network in networks
            if isinstance(network, IPv4Network)
        ]
        return [*map(str, networks), *mapped]

    def as_owner(self) -> "Settings":
        """The settings with the URL of the owner of the tables, for work that needs its rights."""
        if self.owner_url is None:
            return self
        return self.model_copy(
            update={"database_url": self.owner_url, "listen_url": None, "db_pooler": "none"}
        )

    def required_listen_url(self) -> str:
        url = self.listen_url
        return self.required_database_url() if url is None else url.get_secret_value()

    def required_database_url(self) -> str:
        if self.database_url is None:
            raise SettingsError(
                "BOTFARM_DATABASE_URL is not set: postgresql://user:password@host:port/database"
            )
        return self.database_url.get_secret_value()


def is_loopback(host: str) -> bool:
    try:
        return host.lower() == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _parse_networks(text: str) -> list[IPv4Network | IPv6Network]:
    return [ip_network(entry.strip()) for entry in text.split(",") if entry.strip()]


def load_settings(**overrides: Any) -> Settings:
    """Reads the environment; raises SettingsError with one line for each setting that cannot work."""
    secrets = os.environ.get(f"{PREFIX}SECRETS_DIR") or None
    if secrets and not Path(secrets).is_dir():
        raise SettingsError(f"{PREFIX}SECRETS_DIR: there is no folder {secrets}")
    try:
        return Settings(_secrets_dir=secrets, **overrides)
    except SettingsSourceError:
        raise SettingsError(f"{PREFIX}SECRETS_DIR: a file in it cannot be read as UTF-8 text") from None
    except ValidationError as error:
        problems = error.errors(include_input=False, include_context=False, include_url=False)
        lines = [
            f"{PREFIX}{'.'.join(map(str, p['loc'])).upper()}: {p['msg'].removeprefix('Value error, ')}"
            for p in problems
        ]
        raise SettingsError("\n".join(lines)) from None
