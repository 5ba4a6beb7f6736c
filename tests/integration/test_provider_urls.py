"""Parameters of a URL beside hosts and account, on real connections."""

import asyncio
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from botfarm.db.postgres import multi_host
from botfarm.db.postgres.multi_host import connect
from botfarm.runtime.startup import migrate
from support.app import api_client
from support.farm import test_settings
from support.http import LEASE, create_project, create_user
from support.proxy import proxy_to

PARAMETERS = (
    "sslmode=prefer&channel_binding=prefer&gssencmode=disable&connect_timeout=10&application_name=mine"
    "&fallback_application_name=mine&client_encoding=LATIN1"
    "&target_session_attrs=read-write&load_balance_hosts=random"
    "&keepalives=1&keepalives_idle=31&keepalives_interval=7&keepalives_count=3&tcp_user_timeout=9000"
    "&options=-c%20search_path%3Dpublic%20-c%20statement_timeout%3D20000"
)


def with_query(url: str, query: str) -> str:
    return urlunsplit(urlsplit(url)._replace(query=query))


async def test_a_farm_works_with_the_parameters_that_providers_give(empty_database: str) -> None:
    settings = test_settings(with_query(empty_database, PARAMETERS))
    await migrate(settings)
    async with api_client(settings) as api:
        await create_user(api, await create_project(api))
        assert (await api.post("/leases", json=LEASE)).status_code == 201


async def test_parameters_are_honoured_where_they_make_a_difference(database_url: str) -> None:
    connection = await connect(
        with_query(database_url, PARAMETERS), server_settings={"application_name": "ours"}
    )
    try:
        shown = {
            name: await connection.fetchval(f"SHOW {name}")
            for name in ("search_path", "application_name", "client_encoding")
        }
        assert shown == {"search_path": "public", "application_name": "ours", "client_encoding": "UTF8"}
        tcp = connection._transport.get_extra_info("socket")
        assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
            options = [tcp.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names]
            assert options == [31, 7, 3, 9000]
    finally:
        await connection.close()


async def test_a_connection_that_cannot_be_set_up_is_not_left_open(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a number that this kernel refuses."""
    made: list[multi_host.Connection] = []

    def fail(connection: multi_host.Connection, _: object) -> None:
        made.append(connection)
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(multi_host.Connection, "keep_alive", fail)
    with pytest.raises(OSError, match="Invalid argument"):
        await connect(database_url)
    assert [each.is_closed() for each in made] == [True]


async def test_a_host_that_is_silent_is_given_up_after_connect_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        async with asyncio.timeout(60):
            with pytest.raises(TimeoutError):
                await connect(f"postgresql://farm@{host}/db?connect_timeout=1")


def make_certificate(folder: Path, host: str) -> tuple[Path, Path]:
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    key_path, path = folder / "server.key", folder / "server.crt"
    key_path.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    key_path.chmod(0o600)
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return key_path, path


async def test_the_systems_certificates_are_trusted_where_the_url_says_so(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = make_certificate(tmp_path, "localhost")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    tls.set_alpn_protocols(["postgresql"])
    monkeypatch.setattr(multi_host, "_system_tls", multi_host._system_tls.__wrapped__)
    direct = "sslnegotiation=direct&sslrootcert=system"
    async with proxy_to(database_url, tls=tls) as proxy:
        url = proxy.url.replace("127.0.0.1", "localhost")
        with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
            await connect(with_query(url, direct))
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        for query in (direct, f"sslmode=verify-full&{direct}"):
            connection = await connect(with_query(url, query))
            assert await connection.fetchval("SELECT 1") == 1
            await connection.close()
        with pytest.raises(OSError, match="mismatch"):
            await connect(with_query(proxy.url, direct))
