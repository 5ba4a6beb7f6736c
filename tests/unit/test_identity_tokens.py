"""The verifier of identity tokens: what it takes, and the exact reason of each refusal."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botfarm.services.trust import issuer_keys
from botfarm.services.trust.identity_tokens import IdentityTokens, RefusedError, issuer_of
from botfarm.services.trust.issuer_keys import IssuerKeys, KeysUnavailableError
from support.issuer import AUDIENCE, DISCOVERY, GITHUB, GITLAB, KEYS, Issuer, signing_key


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def verifier(issuer: Issuer, clock: Clock) -> IdentityTokens:
    return IdentityTokens(IssuerKeys(None, fetch=fetch_of(issuer), clock=clock), audience=AUDIENCE)


def fetch_of(issuer: Issuer) -> issuer_keys.Fetch:
    def fetch(address: str) -> object:
        try:
            return issuer.fetch(address)
        except OSError:
            raise KeysUnavailableError("the issuer cannot be asked: OSError") from None

    return fetch


async def refusal(verifier: IdentityTokens, issuer: Issuer, token: str) -> str:
    with pytest.raises(RefusedError) as caught:
        await verifier.verify(token, issuer=issuer.url)
    assert_quotes_nothing(str(caught.value), token)
    return str(caught.value)


def assert_quotes_nothing(reason: str, token: str) -> None:
    for part in token.split("."):
        assert len(part) < 12 or part not in reason


@pytest.mark.parametrize("claims", [GITHUB, GITLAB])
async def test_the_tokens_of_github_and_gitlab_are_taken(
    verifier: IdentityTokens, issuer: Issuer, claims: dict[str, Any]
) -> None:
    found = await verifier.verify(issuer.token(claims), issuer=issuer.url)
    for name, value in claims.items():
        assert isinstance(value, list) or found.claims[name] == str(value)
    assert "groups_direct" not in found.claims


async def test_a_token_signed_on_an_elliptic_curve_is_taken(verifier: IdentityTokens, issuer: Issuer) -> None:
    issuer.keys = [signing_key("curve", "ES256")]
    assert (await verifier.verify(issuer.token(), issuer=issuer.url)).claims["repository_id"] == "7301"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"aud": "https://elsewhere.test"}, "another audience"),
        ({"aud": [AUDIENCE]}, "another audience"),
        ({"aud": [AUDIENCE, "https://elsewhere.test"]}, "another audience"),
        ({"aud": None}, "a claim of time, issuer or audience is missing"),
        ({"iss": "https://elsewhere.test"}, "another issuer"),
        ({"iss": None}, "a claim of time, issuer or audience is missing"),
        ({"iss": ["https://ci.test"]}, "another issuer"),
        ({"exp": 1_000_000}, "expired"),
        ({"exp": None}, "a claim of time, issuer or audience is missing"),
        ({"exp": "soon"}, "not a valid JWT"),
        ({"exp": 1e400}, "not a valid JWT"),
        ({"exp": {"at": 1}}, "not a valid JWT"),
        ({"exp": 10**12}, "lives too long"),
        ({"exp": 10**30}, "lives too long"),
        ({"iat": None}, "a claim of time, issuer or audience is missing"),
        ({"iat": 9_000_000_000}, "not valid yet"),
        ({"nbf": 9_000_000_000}, "not valid yet"),
        ({"nbf": []}, "not a valid JWT"),
    ],
)
async def test_claims_that_do_not_fit_are_refused(
    verifier: IdentityTokens, issuer: Issuer, changed: dict[str, Any], reason: str
) -> None:
    assert await refusal(verifier, issuer, unchecked(issuer, changed)) == reason


async def test_half_a_minute_between_the_clocks_is_forgiven(verifier: IdentityTokens, issuer: Issuer) -> None:
    now = int(time.time())
    token = issuer.token(iat=now + 20, nbf=now + 20, exp=now - 10)
    assert await verifier.verify(token, issuer=issuer.url)
    late = issuer.token(exp=now - 60)
    assert await refusal(verifier, issuer, late) == "expired"


async def test_a_token_without_a_signature_is_refused(verifier: IdentityTokens, issuer: Issuer) -> None:
    token = jwt.encode({**GITHUB, "iss": issuer.url, "aud": AUDIENCE}, None, "none", headers={"kid": "first"})
    assert await refusal(verifier, issuer, token) == "algorithm not allowed"


async def test_the_public_key_as_a_shared_secret_is_refused(verifier: IdentityTokens, issuer: Issuer) -> None:
    body = issuer.token().split(".")[1]
    head = encoded({"alg": "HS256", "typ": "JWT", "kid": "first"})
    token = jwt.api_jws.PyJWS()
    signed = token.get_algorithm_by_name("HS256").sign(f"{head}.{body}".encode(), issuer.keys[0].public_pem)
    whole = f"{head}.{body}.{base64.urlsafe_b64encode(signed).rstrip(b'=').decode()}"
    assert await refusal(verifier, issuer, whole) == "algorithm not allowed"


async def test_a_shared_secret_among_the_keys_is_no_key(verifier: IdentityTokens, issuer: Issuer) -> None:
    issuer.documents[KEYS] = {"keys": [{"kty": "oct", "kid": "first", "k": "c2VjcmV0"}]}
    assert await refusal(verifier, issuer, issuer.token()) == (
        "keys unavailable: the issuer does not answer with keys"
    )


async def test_a_token_of_another_key_or_algorithm_is_refused(
    verifier: IdentityTokens, issuer: Issuer
) -> None:
    other = signing_key("second")
    assert (
        await refusal(verifier, issuer, issuer.token(key=other, header={"kid": "first"})) == "bad signature"
    )
    curve = signing_key("curve", "ES256")
    reason = await refusal(verifier, issuer, issuer.token(key=curve, header={"kid": "first"}))
    assert reason in {"algorithm not allowed", "not a valid JWT"}
    assert await refusal(verifier, issuer, issuer.token(key=other)) == "unknown key"


async def test_a_changed_claim_breaks_the_signature(verifier: IdentityTokens, issuer: Issuer) -> None:
    head, _, tail = issuer.token().split(".")
    forged = issuer.token(repository_id="1").split(".")[1]
    assert await refusal(verifier, issuer, f"{head}.{forged}.{tail}") == "bad signature"


@pytest.mark.parametrize("key_id", [None, 7, ["first"], "", "../first", "x" * 5_000])
async def test_a_strange_name_of_a_key_is_refused(
    verifier: IdentityTokens, issuer: Issuer, key_id: object
) -> None:
    issuer.keys = [signing_key("first"), signing_key("second")]
    _, body, tail = issuer.token().split(".")
    token = f"{encoded({'alg': 'RS256', 'kid': key_id})}.{body}.{tail}"
    assert await refusal(verifier, issuer, token) in {"unknown key", "not a JWT"}


async def test_the_only_key_needs_no_name(verifier: IdentityTokens, issuer: Issuer) -> None:
    key = issuer.keys[0]
    claims = {
        **GITHUB,
        "iss": issuer.url,
        "aud": AUDIENCE,
        "iat": int(time.time()),
        "exp": int(time.time()) + 60,
    }
    token = jwt.encode(claims, key.private, key.algorithm)
    assert await verifier.verify(token, issuer=issuer.url)


@settings(max_examples=40)
@given(text=st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: raw.decode("latin-1")))
def test_no_text_breaks_the_reading_of_the_issuer(text: str) -> None:
    assert issuer_of(text) is None
    assert issuer_of(f"{encoded({'alg': 'RS256'})}.{text}.x") is None


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 11_000,
        b'{"iss": ' + b"1" * 5_000 + b"}",
        b'{"iss": NaN}',
        b"null",
        b'"text"',
        b"[]",
        b"\xff\xfe",
        b"{",
    ],
)
def test_no_document_breaks_the_reading_of_the_issuer(body: bytes) -> None:
    raw = base64.urlsafe_b64encode(body).rstrip(b"=").decode()
    assert issuer_of(f"{encoded({'alg': 'RS256', 'kid': 'first'})}.{raw}.c2ln") is None


def test_a_huge_token_is_not_read() -> None:
    assert issuer_of(Issuer().token(padding="x" * 20_000)) is None


# ---- keys ----------------------------------------------------------------------------------------------------


async def test_keys_are_asked_for_once_and_kept(verifier: IdentityTokens, issuer: Issuer) -> None:
    for _ in range(3):
        await verifier.verify(issuer.token(), issuer=issuer.url)
    assert issuer.asked == [DISCOVERY, KEYS]


async def test_a_new_key_is_found_at_once_and_an_unknown_one_costs_one_refresh_a_minute(
    verifier: IdentityTokens, issuer: Issuer, clock: Clock
) -> None:
    await verifier.verify(issuer.token(), issuer=issuer.url)
    clock.now += 61
    issuer.keys = [signing_key("first"), signing_key("second")]
    await verifier.verify(issuer.token(), issuer=issuer.url)
    assert len(issuer.asked) == 4
    for number in range(50):
        unknown = issuer.token(header={"kid": f"made-up-{number}"})
        assert await refusal(verifier, issuer, unknown) == "unknown key"
    assert len(issuer.asked) == 4
    clock.now += 61
    assert await refusal(verifier, issuer, issuer.token(header={"kid": "made-up"})) == "unknown key"
    assert len(issuer.asked) == 6


async def test_a_key_that_was_taken_away_is_refused_ten_minutes_later(
    verifier: IdentityTokens, issuer: Issuer, clock: Clock
) -> None:
    old = issuer.token()
    await verifier.verify(old, issuer=issuer.url)
    issuer.keys = [signing_key("second")]
    clock.now += issuer_keys.LIFETIME + 1
    assert await refusal(verifier, issuer, old) == "unknown key"


async def test_keys_stay_while_the_issuer_is_away(
    verifier: IdentityTokens, issuer: Issuer, clock: Clock
) -> None:
    await verifier.verify(issuer.token(), issuer=issuer.url)
    issuer.is_away = True
    clock.now += issuer_keys.LIFETIME + 1
    assert await verifier.verify(issuer.token(), issuer=issuer.url)
    asked = len(issuer.asked)
    assert await verifier.verify(issuer.token(), issuer=issuer.url)
    assert len(issuer.asked) == asked


async def test_an_issuer_that_was_away_is_asked_again_after_seconds(
    verifier: IdentityTokens, issuer: Issuer, clock: Clock
) -> None:
    issuer.is_away = True
    for _ in range(3):
        assert "keys unavailable" in await refusal(verifier, issuer, issuer.token())
    assert len(issuer.asked) == 1
    issuer.is_away = False
    clock.now += issuer_keys.BETWEEN_TRIES
    assert await verifier.verify(issuer.token(), issuer=issuer.url)


@pytest.mark.parametrize(
    ("path", "document"),
    [
        (DISCOVERY, {"issuer": "https://elsewhere.test", "jwks_uri": "https://ci.test/keys"}),
        (DISCOVERY, {"issuer": "https://ci.test", "jwks_uri": "http://ci.test/keys"}),
        (DISCOVERY, {"issuer": "https://ci.test", "jwks_uri": ["https://ci.test/keys"]}),
        (DISCOVERY, {"issuer": "https://ci.test"}),
        (DISCOVERY, ["https://ci.test"]),
        (DISCOVERY, None),
        (KEYS, {"keys": []}),
        (KEYS, {"keys": "first"}),
        (KEYS, {"keys": [None, 1, {"kty": "RSA", "kid": "first"}, {"kty": "RSA", "n": 7, "e": []}]}),
        (KEYS, {"keys": [{"kty": ["RSA"], "kid": "first"}, {"kty": "RSA", "kid": "first", "alg": "none"}]}),
        (KEYS, {"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "alg": ["ES256"]}]}),
        (KEYS, None),
    ],
)
async def test_documents_that_are_not_right_give_no_keys(
    verifier: IdentityTokens, issuer: Issuer, path: str, document: object
) -> None:
    issuer.documents[path] = document
    assert "keys unavailable" in await refusal(verifier, issuer, issuer.token())


async def test_an_empty_set_never_replaces_keys(
    verifier: IdentityTokens, issuer: Issuer, clock: Clock
) -> None:
    await verifier.verify(issuer.token(), issuer=issuer.url)
    issuer.documents[KEYS] = {"keys": []}
    clock.now += issuer_keys.LIFETIME + 1
    assert await verifier.verify(issuer.token(), issuer=issuer.url)


async def test_keys_from_a_folder_cost_no_network_and_are_read_anew(tmp_path: Path, issuer: Issuer) -> None:
    file = tmp_path / "ci.test.json"
    file.write_text(json.dumps(issuer.jwks()))
    verifier = IdentityTokens(IssuerKeys(tmp_path, fetch=fetch_of(issuer)), audience=AUDIENCE)
    assert await verifier.verify(issuer.token(), issuer=issuer.url)
    issuer.keys = [signing_key("second")]
    assert await refusal(verifier, issuer, issuer.token()) == "unknown key"
    file.write_text(json.dumps(issuer.jwks()))
    assert await verifier.verify(issuer.token(), issuer=issuer.url)
    file.write_text("[[[")
    assert "the file of keys cannot be read" in await refusal(verifier, issuer, issuer.token())
    assert issuer.asked == []


def encoded(document: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def unchecked(issuer: Issuer, changed: dict[str, Any]) -> str:
    """A well-signed token with claims that PyJWT itself would not sign."""
    now, key = int(time.time()), issuer.keys[0]
    claims = {
        **GITHUB,
        "iss": issuer.url,
        "aud": AUDIENCE,
        "iat": now,
        "nbf": now,
        "exp": now + 300,
        **changed,
    }
    written = {name: value for name, value in claims.items() if value is not None}
    return jwt.api_jws.PyJWS().encode(
        json.dumps(written).encode(), key.private, key.algorithm, headers={"kid": key.id}
    )
