"""URLs of providers: parameters that are honoured, that make no difference, and that are refused by name."""

import re
from pathlib import Path

import pytest

from botfarm.database_urls import read_database_url
from botfarm.settings import SettingsError, load_settings

PASSWORD = "canary-password"
ACCOUNT = f"farm:{PASSWORD}"

# As providers' documentation and consoles show them, with invented names.
OF_PROVIDERS = {
    "Neon": f"postgresql://{ACCOUNT}@ep-cool-1-pooler.eu-central-1.aws.neon.tech/db?"
    "sslmode=require&channel_binding=prefer",
    "Neon without SNI": f"postgres://{ACCOUNT}@ep.neon.tech/db?sslmode=require&options=endpoint%3Dep-cool-1",
    "Supabase": f"postgresql://postgres.abc:{PASSWORD}@aws-0-eu-central-1.pooler.supabase.com:6543/postgres",
    "RDS": f"postgresql://{ACCOUNT}@db.rds.amazonaws.com:5432/db?sslmode=verify-full&sslrootcert=system",
    "Heroku": f"postgres://{ACCOUNT}@ec2-1-2-3-4.compute-1.amazonaws.com:5432/d1234?sslmode=require",
    "Azure": f"postgresql://{ACCOUNT}@srv.postgres.database.azure.com:5432/db?"
    "sslmode=require&gssencmode=disable",
    "Cloud SQL": f"postgresql://{ACCOUNT}@/db?host=/cloudsql/project:region:instance",
    "Cloud SQL, with a host that is not meant": f"postgresql://{ACCOUNT}@localhost/db?host=/cloudsql/p:r:i",
    "DigitalOcean": f"postgresql://{ACCOUNT}@x.db.ondigitalocean.com:25060/db?sslmode=require",
    "as pgAdmin copies it": f"postgresql://{ACCOUNT}@h/db?application_name=x&connect_timeout=10&keepalives=1"
    "&keepalives_idle=30&keepalives_interval=10&keepalives_count=3&tcp_user_timeout=20000"
    "&target_session_attrs=read-write",
    "of JDBC": f"postgresql://{ACCOUNT}@h/db?ssl=true",
}


@pytest.mark.parametrize("url", OF_PROVIDERS.values(), ids=OF_PROVIDERS)
@pytest.mark.parametrize("setting", ["database_url", "listen_url"])
def test_urls_of_providers_are_taken(setting: str, url: str) -> None:
    assert load_settings(**{setting: url})


# The whole list of libpq 18, each with a value.
LIBPQ = {
    "host": "h", "hostaddr": "", "port": "5432", "dbname": "d", "user": "u", "password": "p",
    "passfile": "/p", "require_auth": "", "channel_binding": "prefer", "connect_timeout": "10",
    "client_encoding": "auto", "options": "-c geqo=off", "application_name": "a",
    "fallback_application_name": "a", "keepalives": "1", "keepalives_idle": "1",
    "keepalives_interval": "1", "keepalives_count": "1", "tcp_user_timeout": "1", "replication": "false",
    "gssencmode": "prefer", "sslmode": "require", "sslnegotiation": "postgres", "sslcompression": "0",
    "sslcert": __file__, "sslkey": __file__, "sslkeylogfile": "", "sslpassword": "p",
    "sslcertmode": "allow", "sslrootcert": __file__, "sslcrl": __file__, "sslcrldir": "", "sslsni": "1",
    "requirepeer": "", "ssl_min_protocol_version": "TLSv1.2", "ssl_max_protocol_version": "TLSv1.3",
    "min_protocol_version": "3.0", "max_protocol_version": "latest", "krbsrvname": "postgres",
    "gsslib": "gssapi", "gssdelegation": "0", "scram_client_key": "", "scram_server_key": "",
    "service": "s", "target_session_attrs": "any", "load_balance_hosts": "random", "oauth_issuer": "",
    "oauth_client_id": "", "oauth_client_secret": "", "oauth_scope": "",
}  # fmt: skip


def test_every_parameter_of_libpq_is_known() -> None:
    query = "&".join(f"{name}={value}" for name, value in LIBPQ.items())
    assert read_database_url(f"postgresql://{ACCOUNT}@h/db?{query}")


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("channel_binding=require", "channel_binding"),
        ("gssencmode=require", "gssencmode"),
        ("require_auth=scram-sha-256", "require_auth"),
        ("requirepeer=postgres", "requirepeer"),
        ("hostaddr=192.0.2.1", "hostaddr"),
        ("replication=database", "replication"),
        ("scram_client_key=canary-key", "scram_client_key"),
        ("oauth_client_secret=canary-secret", "oauth_client_secret"),
        ("sslmode=canary", "sslmode"),
        ("target_session_attrs=canary", "target_session_attrs"),
        ("connect_timeout=canary", "connect_timeout"),
        ("keepalives_idle=canary", "keepalives_idle"),
        ("keepalives_idle=32768", "keepalives_idle"),
        ("keepalives_interval=32768", "keepalives_interval"),
        ("keepalives_count=128", "keepalives_count"),
        ("port=canary", "port"),
        ("host=a,b,c&port=1,2", "port"),
        ("sslmode=require&sslrootcert=system", "sslrootcert"),
        ("sslmode=verify-full&sslrootcert=/canary/none", "sslrootcert"),
        ("sslcert=/canary/none", "sslcert"),
        (f"sslcert=/{'canary' * 999}", "sslcert"),
        ("sslcert=/canary%00", "sslcert"),
        ("pgbouncer=true", "pgbouncer"),
        ("statement_timeout=5", "statement_timeout"),
    ],
)
@pytest.mark.parametrize("setting", ["DATABASE_URL", "LISTEN_URL"])
def test_an_unsupported_parameter_is_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, setting: str, query: str, name: str
) -> None:
    monkeypatch.setenv(f"BOTFARM_{setting}", f"postgresql://{ACCOUNT}@host/db?{query}")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    (line,) = str(caught.value).splitlines()
    assert re.match(rf"BOTFARM_{setting}: .*\b{name}\b", line)
    assert "canary" not in line


@pytest.mark.parametrize(
    "url",
    [
        "mysql://h/db",
        f"postgresql+asyncpg://{ACCOUNT}@h/db",
        "postgresql://farm:canary#canary@h/db",
        "postgresql://farm:canary/canary@h/db",
        "postgresql://farm:canary?canary@h/db",
        "postgresql://farm:1?canary=1@h/db",
        "postgresql://farm:1?canary@h/db",
        "postgresql://farm:canary@canary@h/db",
        "postgresql://farm:canary[@h/db",
        "postgresql://h:70000/db",
        "postgresql://a,b:x/db",
    ],
)
def test_a_url_of_another_shape_is_refused_and_no_part_of_it_is_shown(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("BOTFARM_DATABASE_URL", url)
    with pytest.raises(SettingsError, match=r"^BOTFARM_DATABASE_URL: ") as caught:
        load_settings()
    assert "canary" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("postgresql://u@a:1,b/d", ["u@a:1", "u@b"]),
        ("postgresql://u@[::1]:1,b:2/d", ["u@[::1]:1", "u@b:2"]),
        ("postgresql://u@/d?host=a,b&port=1,2", ["u@a:1", "u@b:2"]),
        ("postgresql://u@ignored:7/d?host=a,::1", ["u@a:7", "u@[::1]:7"]),
        ("postgresql://u@/d?host=/cloudsql/p:r:i", ["u@%2Fcloudsql%2Fp%3Ar%3Ai"]),
        ("postgresql://u@a,b/d?port=5", ["u@a:5", "u@b:5"]),
    ],
)
def test_hosts_are_read_as_libpq_reads_them(url: str, hosts: list[str]) -> None:
    assert list(read_database_url(url).hosts) == [f"postgresql://{host}/d" for host in hosts]


def test_a_plus_is_a_plus() -> None:
    """The driver would read it as a blank, as in a form of a page."""
    (url,) = read_database_url("postgresql://h/d?password=a+b%26c").hosts
    assert url == "postgresql://h/d?password=a%2Bb%26c"


def test_the_page_of_settings_names_every_parameter() -> None:
    page = (Path(__file__).parents[2] / "docs/settings.md").read_text()
    assert [name for name in LIBPQ if f"`{name}`" not in page and f"`{name}=" not in page] == []
