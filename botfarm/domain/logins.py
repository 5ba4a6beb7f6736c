"""What a login may be, and the normal form of logins: two logins with the same one are the same account."""

import unicodedata
from enum import StrEnum

import idna
from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, validate_email

# Test accounts live in `.test`, `.local` and `localhost`, which the library refuses by default.
SPECIAL_USE_DOMAIN_NAMES.clear()


class Logins(StrEnum):
    """What a project asks of new logins; every one is printable, without a blank at either end."""

    EMAIL = "email"
    ANY = "any"
    """Also phone numbers and names of accounts."""

    def allow(self, login: str) -> bool:
        return self is Logins.ANY or is_email(login)


def is_email(login: str) -> bool:
    """Takes some 45 microseconds. Underscores in the host are fine: test systems have them, against RFC 5321."""
    local, at, host = login.rpartition("@")
    try:
        validate_email(
            local + at + host.replace("_", "x"), check_deliverability=False, globally_deliverable=False
        )
    except EmailNotValidError:
        return False
    return True


def login_key(login: str) -> str:
    r"""The normal form of a login. Two users of a project and env must not have the same one.

    It is Unicode NFC with the case folded. The host of an address is lower-case ACE (`xn--...`) after the
    mapping of UTS 46, which also maps full-width letters and the other full stops. The function is total and
    idempotent, and does not depend on the database's locale. Every text has one: `a_b.test`, a phone number and
    `DOMAIN\name`, too.
    """
    local, at, host = unicodedata.normalize("NFC", login).rpartition("@")
    return folded(local) + at + _ace(host) if local else folded(login)


def parts_of_keys(part: str) -> set[str]:
    """Texts, one of which is in the normal form of each login with this part, unless it cuts a label of the host."""
    local, at, host = unicodedata.normalize("NFC", part).rpartition("@")
    return {folded(part), folded(local) + at + _ace(host)}


def folded(text: str) -> str:
    """The text without a difference of case.

    Decomposes before folding, as Unicode's caseless match (D145) does: folding may reorder marks.
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())


def _ace(host: str) -> str:
    """Also encodes labels that IDNA does not allow (`_`, emoji), so that both of their spellings agree."""
    try:
        mapped = idna.uts46_remap(host, std3_rules=False)
    except idna.IDNAError:  # no host at all, such as one with a control character
        return folded(host)
    return ".".join(map(_a_label, mapped.split(".")))


def _a_label(label: str) -> str:
    return label if label.isascii() else f"xn--{label.encode('punycode').decode('ascii')}"
