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


def test_no_secret_is_shown() -> None:
    secrets = {
        "database_url": "postgresql://u:canary-secret@h/d",
        "encryption_keys": "k1:canary-secret",
        "bootstrap_token": "canary-secret-canary-secret",
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
    ],
)
def test_what_cannot_work_is_refused_by_name_without_its_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"BOTFARM_{name.upper()}", value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert str(caught.value).startswith(f"BOTFARM_{name.upper()}: ")
    assert "canary" not in str(caught.value)
