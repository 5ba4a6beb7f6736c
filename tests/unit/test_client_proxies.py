"""The route to the farm from the environment: proxies, their exceptions, and trusted certificates."""

import asyncio
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import certifi
import httpx
import pytest

from botfarm_client import AsyncBotfarm, Botfarm
from botfarm_client.commands.shared.command_errors import CommandError
from botfarm_client.commands.shared.farm_access import open_farm
from botfarm_client.connection.api_calls import Call
from botfarm_client.connection.async_connection import AsyncConnection
from botfarm_client.connection.connection import Connection
from botfarm_client.connection.proxies import proxy_for
from botfarm_client.connection.route import tls_context
from botfarm_client.errors import BotfarmError, FarmUnreachableError, LostAnswerError, SettingError
from support.certificates import server_tls
from support.live_farm import free_port
from support.stub_server import StubServer, stub_server

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUEST_METHOD")
TRUST = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")
LOOK = Call(method="GET", path="/look")
PROXY_LOGIN = "Basic " + b64encode(b"me:p/w").decode()


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, *TRUST):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def proxy() -> Iterator[StubServer]:
    with stub_server() as proxy:
        yield proxy


def with_login(proxy: StubServer) -> str:
    return proxy.url.replace("://", "://me:p%2Fw@")


@pytest.mark.parametrize(
    ("environment", "proxy"),
    [
        ({}, None),
        ({"HTTP_PROXY": "http://p.test:3128"}, "http://p.test:3128 (HTTP_PROXY)"),
        ({"http_proxy": "p.test:3128"}, "http://p.test:3128 (http_proxy)"),
        ({"HTTP_PROXY": "http://P.test", "http_proxy": "http://q.test"}, "http://q.test:80 (http_proxy)"),
        ({"HTTP_PROXY": "http://P.test", "http_proxy": ""}, None),
        ({"HTTP_PROXY": " "}, None),
        ({"HTTP_PROXY": "\ufeffp.test\r\n"}, "http://p.test:80 (HTTP_PROXY)"),
        ({"HTTP_PROXY": "\n", "ALL_PROXY": "p.test"}, "http://p.test:80 (ALL_PROXY)"),
        ({"ALL_PROXY": "https://p.test"}, "https://p.test:443 (ALL_PROXY)"),
        ({"ALL_PROXY": "socks5://s.test", "HTTP_PROXY": "[fd00::1]:1"}, "http://[fd00::1]:1 (HTTP_PROXY)"),
        ({"HTTPS_PROXY": "socks5://s.test"}, None),
        ({"FTP_PROXY": "??"}, None),
    ],
)
def test_the_proxy_is_that_of_the_farms_scheme(
    environment: dict[str, str], proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = proxy_for(httpx.URL("http://farm.test"))
    assert (found and str(found)) == proxy


@pytest.mark.parametrize(
    ("farm", "no_proxy", "is_excluded"),
    [
        ("http://farm.test", "*", True),
        ("http://farm.test", "farm.test", True),
        ("http://farm.test", "shop.test, FARM.test", True),
        ("http://a.farm.test", "farm.test", True),
        ("http://a.farm.test", ".farm.test", True),
        ("http://a.farm.test", "*.farm.test", True),
        ("http://a.farm.test.", "farm.test", True),
        ("http://myfarm.test", "farm.test", False),
        ("http://farm.test", "a.farm.test", False),
        ("http://farm.test:8000", "farm.test:8000", True),
        ("http://farm.test:8000", "farm.test:9000", False),
        ("http://farm.test", "farm.test:80", True),
        ("http://farm.test", "http://farm.test", True),
        ("http://10.1.2.3", "10.0.0.0/8", True),
        ("http://10.1.2.3:8000", "10.0.0.0/8:8000", True),
        ("http://11.1.2.3", "10.0.0.0/8", False),
        ("http://10.1.2.3", "fd00::/8,10.1.2.3", True),
        ("http://[fd00::12]:8000", "10.0.0.0/8,fd00::/8", True),
        ("http://[fe80::12]", "fd00::/8", False),
        ("http://[::1]:8000", "[0:0::1]:8000", True),
        ("http://[::1]:8000", "[::1]:9000", False),
        ("http://127.0.0.1:8000", "localhost", False),
        ("http://farm.test", "10.0.0.0/99 fd00::/x,:,,.", False),
    ],
)
def test_names_addresses_and_networks_are_excluded(
    farm: str, no_proxy: str, is_excluded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://p.test")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert (proxy_for(httpx.URL(farm)) is None) is is_excluded
    monkeypatch.setenv("ALL_PROXY", "socks://s.test")  # a variable that is not for this farm is ignored
    if is_excluded:
        assert proxy_for(httpx.URL(farm)) is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("socks5://me:cret@s.test:1080", "ALL_PROXY names a SOCKS proxy.*NO_PROXY=127.0.0.1"),
        ("socks://s-cret.test", "ALL_PROXY names a SOCKS proxy"),
        ("http://me:s/cret@p.test:3128", "ALL_PROXY is not the URL of an HTTP proxy"),
        ("http://me:12/cret@p.test:3128", "ALL_PROXY is not the URL"),
        ("http://me:12?cret@p.test:3128", "ALL_PROXY is not the URL"),
        ("http://me:12#cret@p.test:3128", "ALL_PROXY is not the URL"),
        ("http://cret.test:port", "ALL_PROXY is not the URL"),
        ("http://cret.test:99999", "ALL_PROXY is not the URL"),
        ("http://cret..test", "ALL_PROXY is not the URL"),
        ("http://cret.test:0", "ALL_PROXY is not the URL"),
        ("http://s cret.test", "ALL_PROXY is not the URL"),
        ("http://s%20cret.test", "ALL_PROXY is not the URL"),
        ("quic://cret.test", "ALL_PROXY is not the URL"),
    ],
)
def test_an_invalid_proxy_is_one_line_that_does_not_repeat_it(
    value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOTFARM_TOKEN", "token")
    monkeypatch.setenv("ALL_PROXY", value)
    said = []
    with pytest.raises(CommandError, match=message) as command, open_farm("http://127.0.0.1:1"):
        pass
    said.append(str(command.value))
    for kind in (Botfarm, AsyncBotfarm):
        with pytest.raises(SettingError, match=message) as raised:
            kind("http://127.0.0.1:1")
        said.append(str(raised.value))
    assert not [each for each in said if "cret" in each or "\n" in each]


def ask(url: str) -> list[object]:
    """The answers to a thread and to a task, or the failure."""

    async def ask_in_a_task() -> object:
        farm = AsyncConnection(url, "token")
        try:
            return await farm.send(LOOK)
        finally:
            await farm.close()

    answers: list[object] = []
    with Connection(url, "token") as farm:
        for each in (lambda: farm.send(LOOK), lambda: asyncio.run(ask_in_a_task())):
            try:
                answers.append(each())
            except BotfarmError as error:
                answers.append(error)
    return answers


def test_a_plain_farm_is_asked_by_the_proxy(proxy: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", with_login(proxy))
    proxy.answer = lambda _: (200, {"from": "the farm"})
    assert ask("http://farm.test/below") == [{"from": "the farm"}] * 2
    for seen in proxy.requests:
        assert (seen.method, seen.target) == ("GET", "http://farm.test/below/api/v1/look")
        assert (seen.headers["host"], seen.headers["proxy-authorization"]) == ("farm.test", PROXY_LOGIN)


@pytest.mark.parametrize("is_encrypted", [False, True], ids=["http proxy", "https proxy"])
def test_an_encrypted_farm_is_reached_through_a_tunnel(
    is_encrypted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls, trusted = server_tls(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    with stub_server(tls) as farm, stub_server(tls if is_encrypted else None) as proxy:
        proxy.connect_to = ("127.0.0.1", int(farm.url.rpartition(":")[2]))
        monkeypatch.setenv("https_proxy", with_login(proxy))
        assert ask(farm.url) == [{}, {}]
    assert [seen.headers["authorization"] for seen in farm.requests] == ["Bearer token"] * 2
    for seen in proxy.requests:
        assert (seen.method, seen.target) == ("CONNECT", farm.url.removeprefix("https://"))
        assert seen.headers["proxy-authorization"] == PROXY_LOGIN
        assert "authorization" not in seen.headers


def test_a_farm_out_of_reach_says_which_proxy_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = f"127.0.0.1:{free_port()}"
    for variable, url in (("http_proxy", "http://farm.test"), ("https_proxy", "https://farm.test")):
        monkeypatch.setenv(variable, f"me:s-cret@{proxy}")
        for failure in ask(url):
            assert isinstance(failure, FarmUnreachableError)
            assert not isinstance(failure, LostAnswerError)
            assert f"cannot reach the farm at {url} through the proxy http://{proxy} ({variable})" in str(
                failure
            )
            assert "s-cret" not in str(failure)


def test_a_proxy_that_refuses_a_tunnel_has_not_asked_the_farm(
    proxy: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", with_login(proxy))
    for failure in ask("https://farm.test"):
        assert isinstance(failure, FarmUnreachableError)
        assert not isinstance(failure, LostAnswerError)
        assert f"through the proxy {proxy.url} (https_proxy) (the proxy answered 403 Forbidden)" in str(
            failure
        )
        assert "p/w" not in str(failure)


def test_an_answer_of_the_proxy_itself_names_the_proxy(
    proxy: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", proxy.url)
    proxy.answer = lambda _: (407, ["no document of a farm"])
    monkeypatch.setenv("BOTFARM_TOKEN", "token")
    with pytest.raises(CommandError) as raised, open_farm("http://farm.test") as farm:
        farm.send(LOOK)
    assert f"407 (Proxy Authentication Required through the proxy {proxy.url} (http_proxy))" in str(
        raised.value
    )


@pytest.mark.parametrize(
    ("variable", "content", "message"),
    [
        ("SSL_CERT_FILE", None, "cannot use the file of SSL_CERT_FILE: No such file or directory"),
        ("SSL_CERT_FILE", "no certificate", "SSL_CERT_FILE names a file that holds no certificate"),
        ("SSL_CERT_DIR", None, "SSL_CERT_DIR names no folder that is there"),
        ("SSLKEYLOGFILE", None, "cannot use the file of SSLKEYLOGFILE: No such file or directory"),
    ],
)
def test_an_unusable_tls_file_is_one_line_and_ignored_over_plain_http(
    variable: str, content: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "folder" / "s-cret"
    if content is not None:
        file.parent.mkdir()
        file.write_text(content)
    monkeypatch.setenv(variable, str(file))
    for kind in (Botfarm, AsyncBotfarm):
        with pytest.raises(SettingError, match=f"^{message}$"):
            kind("https://farm.test", "token")
        kind("http://farm.test", "token")


def test_a_folder_of_certificates_is_trusted_and_certifi_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(tls_context().get_ca_certs()) > 50
    monkeypatch.setenv("SSL_CERT_DIR", f"{tmp_path}/absent:{tmp_path}")
    assert tls_context().get_ca_certs() == []


def test_line_ends_and_blanks_are_no_part_of_what_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_DIR", f"{tmp_path}\r\n")
    assert tls_context().get_ca_certs() == []
    monkeypatch.setenv("SSL_CERT_FILE", f" {certifi.where()}\n")
    assert len(tls_context().get_ca_certs()) > 50
    monkeypatch.setenv("SSL_CERT_FILE", " ")
    assert tls_context().get_ca_certs() == []


def test_a_farm_whose_certificate_nobody_trusts_is_out_of_reach(tmp_path: Path) -> None:
    tls, _ = server_tls(tmp_path)
    with stub_server(tls) as farm:
        for failure in ask(farm.url):
            assert isinstance(failure, FarmUnreachableError)
            assert "CERTIFICATE_VERIFY_FAILED" in str(failure)
    assert not farm.requests
