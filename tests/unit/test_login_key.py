"""Normal forms of logins: when two logins are one account."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botfarm.domain.logins import login_key

# Pinned: what is stored must agree with what the next version of `idna`, of Unicode and of Python computes.
SPELLINGS = {
    "anna@shop.test": ["Anna@Shop.TEST", "ANNA@SHOP.TEST"],
    "jürgen@x.test": ["ju\u0308rgen@x.test", "JÜRGEN@x.test", "JU\u0308RGEN@X.TEST"],
    "a@xn--bcher-kva.test": ["a@bücher.test", "A@BU\u0308CHER.test", "a@XN--BCHER-KVA.test"],
    "a@shop.test": [
        "a@shop\u3002test",
        "a@shop\uff0etest",
        "a@shop\uff61test",
        "a@\uff33\uff28\uff2f\uff30.\uff54\uff45\uff53\uff54",
    ],
    "strasse@x.test": ["straße@x.test", "STRASSE@x.test", "STRAẞE@x.test"],
    "a@xn--strae-oqa.test": ["a@straße.test"],
    "σοφοσ@x.test": ["ΣΟΦΟΣ@x.test", "σοφος@x.test"],
    "i\u0307@x.test": ["İ@x.test"],
    "a@my_shop.xn--b_cher-4ya.test": ["A@My_Shop.B_Ücher.test"],
    "a@xn--n3h.test": ["a@☃.test"],
    "a@b\ue000ü": ["A@B\ue000Ü", "a@b\ue000u\u0308"],
    "domain\\jürgen": ["DOMAIN\\Jürgen", "domain\\ju\u0308rgen"],
    "+49 170 1234": ["+49 170 1234"],
    "@ünal": ["@Ünal", "@U\u0308nal"],
    "": [""],
}


@pytest.mark.parametrize(("key", "spellings"), SPELLINGS.items())
def test_all_spellings_of_an_account_have_one_normal_form(key: str, spellings: list[str]) -> None:
    assert [login_key(each) for each in (key, *spellings)] == [key] * (1 + len(spellings))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("jurgen@x.test", "jürgen@x.test"),
        ("a@strasse.test", "a@straße.test"),  # two domains since IDNA 2008
        ("\uff41@x.test", "a@x.test"),  # mail servers need not map the local part
        ("a.b@x.test", "ab@x.test"),
        ("a+tag@x.test", "a@x.test"),
        ("\u0131@x.test", "i@x.test"),
    ],
)
def test_logins_that_may_be_two_accounts_have_two_normal_forms(one: str, other: str) -> None:
    assert login_key(one) != login_key(other)


ANY_LOGIN = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(ANY_LOGIN, st.sampled_from(["", "@", "@x.test", "@bücher.", "ü@"]))
def test_a_normal_form_is_its_own_normal_form(text: str, more: str) -> None:
    for login in (text + more, more + text):
        key = login_key(login)
        assert login_key(key) == key
        for form in ("NFC", "NFD"):
            assert login_key(unicodedata.normalize(form, login)) == key  # type: ignore[arg-type]
        if login.isascii():  # which the migration's trigger relies on
            assert key == login.lower()
