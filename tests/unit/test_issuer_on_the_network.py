"""Fetching the keys of an issuer over https: with patience for little, and nowhere else than it was told."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from botfarm.services.trust import issuer_keys
from botfarm.services.trust.issuer_keys import IssuerKeys, KeysUnavailableError, fetch_json
from support.issuer import DISCOVERY, KEYS, Issuer, served_issuer


@pytest.fixture
def issuer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Issuer]:
    with served_issuer(tmp_path, monkeypatch.setenv) as served:
        yield served


async def test_keys_are_found_by_discovery(issuer: Issuer) -> None:
    key = await IssuerKeys(None).find(issuer.url, "first")
    assert key.key_id == "first"
    assert issuer.asked == [DISCOVERY, KEYS]


async def test_a_certificate_that_nobody_vouches_for_is_refused(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", ssl.get_default_verify_paths().openssl_cafile)
    with pytest.raises(KeysUnavailableError):
        await IssuerKeys(None).find(issuer.url, "first")
    assert issuer.asked == []


def test_a_redirection_is_not_followed(issuer: Issuer) -> None:
    issuer.redirects_to = f"{issuer.url}{KEYS}"
    with pytest.raises(KeysUnavailableError, match="cannot be asked"):
        fetch_json(f"{issuer.url}{DISCOVERY}")
    assert issuer.asked == [DISCOVERY]


def test_a_huge_answer_is_not_read_to_its_end(issuer: Issuer) -> None:
    issuer.documents[KEYS] = b'{"keys": ["' + b"x" * issuer_keys.MAX_BYTES * 8 + b'"]}'
    with pytest.raises(KeysUnavailableError, match="too large"):
        fetch_json(f"{issuer.url}{KEYS}")


@pytest.mark.parametrize("content", [b"<html>", b"[" * 100_000, b"\xff\xfe", b""])
def test_an_answer_that_is_no_json_is_refused(issuer: Issuer, content: bytes) -> None:
    issuer.documents[KEYS] = content
    with pytest.raises(KeysUnavailableError, match="not JSON"):
        fetch_json(f"{issuer.url}{KEYS}")


def test_an_issuer_that_hangs_is_left_after_the_patience(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuer_keys, "PATIENCE", 0.2)
    issuer.hangs = True
    with pytest.raises(KeysUnavailableError, match="cannot be asked"):
        fetch_json(f"{issuer.url}{DISCOVERY}")


def test_an_issuer_that_hangs_up_is_away(issuer: Issuer) -> None:
    issuer.is_away = True
    with pytest.raises(KeysUnavailableError, match="cannot be asked"):
        fetch_json(f"{issuer.url}{DISCOVERY}")


def test_a_page_that_is_not_there_gives_no_keys(issuer: Issuer) -> None:
    with pytest.raises(KeysUnavailableError, match="cannot be asked"):
        fetch_json(f"{issuer.url}/elsewhere")
