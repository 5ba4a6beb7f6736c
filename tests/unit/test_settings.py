from pathlib import Path

import pytest

from botfarm.settings import Settings, SettingsError, load_settings

DOCUMENT = Path(__file__).parents[2] / "docs/settings.md"


def test_every_setting_is_documented() -> None:
    documented = DOCUMENT.read_text()
    assert [name for name in Settings.model_fields if f"`BOTFARM_{name.upper()}`" not in documented] == []


def test_secrets_may_come_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "botfarm_bootstrap_token").write_text("a-token-from-a-mounted-file\n")
    monkeypatch.setenv("BOTFARM_SECRETS_DIR", str(tmp_path))
    token = load_settings().bootstrap_token
    assert token is not None
    assert token.get_secret_value() == "a-token-from-a-mounted-file"


@pytest.mark.parametrize("around", [" {}\r\n", "\ufeff{}", "\t{}\ufeff "])
def test_blanks_and_marks_around_a_setting_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, around: str
) -> None:
    token = "a-token-from-a-mounted-file"
    (tmp_path / "botfarm_bootstrap_token").write_text(around.format(token), encoding="utf-8")
    monkeypatch.setenv("BOTFARM_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("BOTFARM_PORT", around.format("8080"))
    monkeypatch.setenv("BOTFARM_LOG_LEVEL", around.format("debug"))
    settings = load_settings()
    assert settings.bootstrap_token is not None
    assert settings.bootstrap_token.get_secret_value() == token
    assert (settings.port, settings.log_level) == (8080, "DEBUG")


def test_a_mounted_file_that_is_no_text_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "botfarm_bootstrap_token").write_text("a-token-from-a-mounted-file", encoding="utf-16")
    monkeypatch.setenv("BOTFARM_SECRETS_DIR", str(tmp_path))
    with pytest.raises(SettingsError, match="BOTFARM_SECRETS_DIR: a file in it cannot be read as UTF-8 text"):
        load_settings()


def test_no_secret_is_shown() -> None:
    secrets = {
        "database_url": "postgresql://u:canary-secret@h/d",
        "encryption_keys": "k1:canary-secret",
        "bootstrap_token": "canary-secret-canary-secret",
        "oidc_client_secret": "canary-secret",
    }
    assert "canary" not in repr(load_settings(**secrets))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bootstrap_token", "canary"),
        ("bootstrap_token", "canary canary canary canary"),
        ("database_url", "mysql://canary"),
        ("port", "canary"),
        ("port", "70000"),
        ("max_wait", "301"),
        ("history_days", "0"),
        ("log_level", "canary"),
        ("trusted_proxies", "canary"),
        ("trusted_proxies", "*"),
        ("trusted_proxies", "10.0.0.1/8"),
        ("cookie_insecure", "canary"),
        ("db_pooler", "canary"),
        ("public_url", "canary"),
        ("public_url", "http://canary.test"),
        ("public_url", "https://canary.test/?a=b"),
        ("public_url", "https://me@canary.test"),
        ("public_url", "https://canary .test"),
        ("public_url", "https://canary.test:99999"),
        ("oidc_keys_dir", "/no/canary"),
        ("oidc_issuer", "http://canary.test"),
        ("oidc_issuer", "https://"),
        ("oidc_roles", "canary=king"),
    ],
)
def test_a_wrong_setting_is_named_without_its_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"BOTFARM_{name.upper()}", value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert str(caught.value).startswith(f"BOTFARM_{name.upper()}: ")
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_a_cookie_over_plain_http_is_for_loopback(host: str) -> None:
    assert load_settings(host=host, cookie_insecure="1").cookie_insecure


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "farm.test", "localhost.farm.test"])
def test_and_for_nothing_else(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOTFARM_HOST", host)
    monkeypatch.setenv("BOTFARM_COOKIE_INSECURE", "1")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    (line,) = str(caught.value).splitlines()
    assert line.startswith("BOTFARM_COOKIE_INSECURE: ")
    assert "BOTFARM_HOST" in line


def test_proxies_are_trusted_by_address_whatever_the_socket_calls_it() -> None:
    assert load_settings().trusted_networks() == []
    networks = load_settings(trusted_proxies="10.0.0.0/8, 192.0.2.1,2001:db8::/32").trusted_networks()
    assert networks == [
        "10.0.0.0/8",
        "192.0.2.1/32",
        "2001:db8::/32",
        "::ffff:10.0.0.0/104",
        "::ffff:192.0.2.1/128",
    ]


@pytest.mark.parametrize("past_the_pooler", [{"notify": False}, {"listen_url": "postgresql://u@h/d"}])
def test_a_listener_never_uses_the_pooler(past_the_pooler: dict[str, object]) -> None:
    assert load_settings(db_pooler="transaction", **past_the_pooler).db_pooler == "transaction"
    with pytest.raises(SettingsError, match=r"BOTFARM_NOTIFY: .*BOTFARM_LISTEN_URL"):
        load_settings(db_pooler="transaction")
