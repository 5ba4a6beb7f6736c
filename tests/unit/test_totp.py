"""Seeds as apps show them: a seed that would give other codes than the app is refused."""

import hashlib

import pytest

from botfarm.crypto.totp import SeedError, current_code, read_seed

SEED = "JBSWY3DPEHPK3PXP"
START = f"otpauth://totp/Shop:me?secret={SEED}"


def parts(address: str) -> tuple[object, int, int]:
    totp = read_seed(address)
    return totp.digest, totp.digits, totp.interval


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (START, (hashlib.sha1, 6, 30)),
        (f"{START}&Digits=8&PERIOD=60&Algorithm=sha256", (hashlib.sha256, 8, 60)),
        (f"OTPAUTH://TOTP/Shop:me?SECRET={SEED}&digits=7", (hashlib.sha1, 7, 30)),
        (f"{START}&algorithm=HmacSHA512", (hashlib.sha512, 6, 30)),
        (f"{START}&algorithm=SHA-256", (hashlib.sha256, 6, 30)),
        (f"{START}&digits=8&digits=8", (hashlib.sha1, 8, 30)),
        (
            f"{START}&issuer=Shop&Image=https%3A%2F%2Fshop.test%2Fa.png&icon=shop&color=FF0000&lock=false",
            (hashlib.sha1, 6, 30),
        ),
        (
            f"{START}&counter=0&codeDisplay=%7B%22pinned%22%3Atrue%7D&tags=qa",
            (hashlib.sha1, 6, 30),
        ),
    ],
)
def test_an_otpauth_address_gives_the_codes_of_the_apps(
    address: str, expected: tuple[object, int, int]
) -> None:
    assert parts(address) == expected
    assert read_seed(address).secret == SEED


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (f"{START}&amp;digits=8", "&amp; in it"),
        (f"{START}&amp;issuer=Shop", "&amp; in it"),
        (f"{START}&#38;digits=8", "# in it"),
        (f"{START}&issuer=C#&digits=8", "# in it"),
        (f"{START}&encoder=steam", "not known here: `encoder`"),
        (f"{START}&steam", "not known here: `steam`"),
        (f"{START}&digit=8", "not known here: `digit`"),
        (f"{START}&hash=SHA256", "not known here: `hash`"),
        (f"{START}&T0=60", "not known here: number 2"),
        (f"otpauth://totp/Shop:me?{SEED}======&digits=8", "not known here: number 1"),
        (f"otpauth://totp/Shop?me?secret={SEED}", "not known here: number 1"),
        (f"{START}&digits=6&Digits=8", "`digits` twice"),
        (f"{START}&secret={SEED[::-1]}", "`secret` twice"),
        (f"{START}&digits=", "`digits` .* from 6 to 10"),
        (f"{START}&digits=5", "`digits` .* from 6 to 10"),
        (f"{START}&period=0", "`period` .* from 1 to 120"),
        (f"{START}&period=121", "`period` .* from 1 to 120"),
        (f"{START}&period=-30", "`period` .* from 1 to 120"),
        (f"{START}&period={'9' * 5_000}", "`period` .* from 1 to 120"),
        (f"{START}&algorithm=MD5", "`algorithm` .* SHA1, SHA256 or SHA512"),
        (f"{START};digits=8", "must be a base32 seed"),
        (f"{START}%26digits=8", "must be a base32 seed"),
        (f"otpauth://steam/Shop:me?secret={SEED}", "must be a base32 seed"),
        (f"otpauth-migration://offline?data={SEED}", "must be a base32 seed"),
    ],
)
def test_an_unknown_otpauth_parameter_is_named_without_the_seed(address: str, message: str) -> None:
    with pytest.raises(SeedError, match=message) as refused:
        read_seed(address)
    assert not any(piece in str(refused.value) for piece in (SEED, SEED[::-1], "Shop"))
    assert current_code(address) is None


def test_a_seed_alone_gives_the_codes_of_its_app() -> None:
    code = current_code("jbsw y3dp-ehpk 3pxp")
    assert code is not None
    assert read_seed(SEED).verify(code.code, valid_window=1)
