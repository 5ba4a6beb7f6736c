"""The secret texts of a lease: its passwords, and the parts of its `secrets` that the rules here find."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

# Characters. Masking each `no`, `1234` or `dark` would make a log unreadable and protect nothing.
SHORTEST, SHORTEST_NAMED = 8, 4
_LITERALS = frozenset({"true", "false", "null", "none", "undefined"})
_TELLING_NAME = re.compile(
    r"(?:^|_)(?:pass|password|passwd|pwd|passphrase|passcode|pin|puk|cvc|cvv|secret|token|otp|totp|seed|phrase|mnemonic"
    r"|answer|credential|session|[a-z]*sess(?:ion)?_?id|sid|o?auth|jwt|(?:csrf|xsrf)(?:_?token)?|cookie|recovery"
    r"|(?:api|access|private|secret)_?key|(?:pin|backup|recovery|security)_?code)s?_?\d*$"
)
_LONGEST_WORD = 15
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ][\d:.,+ -]*Z?)?")
# `https://shop-2.test:8443`, `shop-2.test`, `ann.2@shop.test`: a path or a query may be a secret link.
_HOST = r"(?:[a-z0-9-]{1,32}\.)+[a-z]{2,10}"
_ADDRESS = re.compile(rf"(?:https?://(?:{_HOST}|localhost)(?::\d{{1,5}})?/?|(?:[\w.+-]{{1,64}}@)?{_HOST})")

Users = Sequence[Mapping[str, Any]]


def passwords(users: Users) -> set[tuple[str, str]]:
    """Login and password of each user whose password is masked, of a rotation the pending one, too.

    Left out are passwords that equal a login or a label, which are public, and those that are frequent
    words of a log.
    """
    shown = _public_texts(users) | _LITERALS
    pairs = {
        (str(user["login"]), str(user[name]))
        for user in users
        for name in ("password", "pending_password")
        if user.get(name)
    }
    return {
        (login, password)
        for login, password in pairs
        if len(password) >= SHORTEST_NAMED and password.lower() not in shown
    }


def other_secrets(users: Users) -> set[str]:
    """The secret texts and numbers in the users' `secrets`."""
    found = {
        text
        for user in users
        for name, value in _leaves(user.get("secrets"))
        for text in (value, *_seeds(value))
        if _is_secret(name, text)
    }
    return {text for text in found if not is_public(text, users)}


def is_public(text: str, users: Users) -> bool:
    """Whether the text is a literal of JSON, or part of a login, a label or an id."""
    plain = text.lower()
    return plain in _LITERALS or any(plain in public for public in _public_texts(users))


def _public_texts(users: Users) -> set[str]:
    texts: set[str] = set()
    for user in users:
        labels = user.get("labels") or {}
        texts |= {str(text).lower() for text in (user["login"], user["id"], *labels, *labels.values())}
    return texts


def _leaves(document: object) -> Iterator[tuple[str, str]]:
    """The texts and numbers of a JSON document, each with its name. JSON inside a text is searched too."""
    left: list[tuple[str, object]] = [("", document)]
    while left:
        name, value = left.pop()
        match value:
            case dict():
                left += _members(value)
            case list():
                left += [(name, each) for each in value]
            case str():
                yield name, value
                left.append((name, _json_inside(value)))
            case None | bool():
                pass
            case _:
                yield name, str(value)


def _members(found: dict[str, object]) -> Iterator[tuple[str, object]]:
    """The members to search.

    A cookie or an entry of local storage counts by its name and value, without its domain and the like.
    """
    own = found.get("name", found.get("key"))
    if isinstance(own, str) and "value" in found:
        yield own, found["value"]
        yield from ((name, value) for name, value in found.items() if _tells(name))
    else:
        yield from found.items()


def _json_inside(text: str) -> object:
    """The JSON in a text, as local storage and (percent-encoded) cookies hold it. None for other texts."""
    plain = unquote(text)
    if not plain.startswith(("{", "[")):
        return None
    try:
        return json.loads(plain)
    except (ValueError, RecursionError):
        return None


def _is_secret(name: str, text: str) -> bool:
    if _tells(name):
        return len(text) >= SHORTEST_NAMED
    return len(text) >= SHORTEST and not (
        _reads_as_words(text) or _DATE.fullmatch(text) or _ADDRESS.fullmatch(text)
    )


def _tells(name: str) -> bool:
    """Whether a name ends with a word for a secret: `adminPassword` does, `token_type` does not."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[\W_]+", "_", name).strip("_").lower()
    return _TELLING_NAME.search(words) is not None


def _reads_as_words(text: str) -> bool:
    words = [word for word in re.split(r"[\W_]+", text) if word]
    return bool(words) and all(
        word.isalpha()
        and len(word) <= _LONGEST_WORD
        and word in {word.lower(), word.upper(), word.capitalize()}
        for word in words
    )


def _seeds(text: str) -> list[str]:
    """The seed of one-time codes in an `otpauth://` address."""
    if not text.lower().startswith("otpauth://"):
        return []
    try:
        parameters = parse_qs(urlsplit(text).query)
    except ValueError:
        return []
    return [seed for name, seeds in parameters.items() if name.lower() == "secret" for seed in seeds]
