"""The normal form of logins: two logins with the same one are the same account."""

import unicodedata

import idna


def login_key(login: str) -> str:
    r"""The normal form of a login. Two users of a project and env must not have the same one.

    It is Unicode NFC with the case folded. The host of an address is lower-case ACE (`xn--...`) after the
    mapping of UTS 46, which also maps full-width letters and the other full stops. The function is total and
    idempotent, and does not depend on the database's locale. It does not validate: `a_b.test`, a phone number
    and `DOMAIN\name` have a normal form, too.
    """
    local, at, host = unicodedata.normalize("NFC", login).rpartition("@")
    return folded(local) + at + _ace(host) if local else folded(login)


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
