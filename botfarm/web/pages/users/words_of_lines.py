"""What is wrong with a line of an import, in words: the codes are those of the API and of the reader of files."""

_WORDS = {
    "also-project_id": "Give the project by its name or by its id, not both.",
    "broken-quotes": "A quote is opened and never closed, or text follows a closed one.",
    "changed-meanwhile": "The user has gone or changed its login while the file was read: import it again.",
    "dict_type": "This must be a JSON object.",
    "extra_forbidden": "There is no such field.",
    "forbidden": "Your scope does not have this env.",
    "missing": "This is missing.",
    "no-such-project": "There is no such project.",
    "other-domain": "The user is there in another domain: move it there, or say its domain.",
    "rotation-pending": "The password is being changed by a keeper: wait for it, or set the password at the user.",
    "not-a-json-object": "This is not a JSON object.",
    "not-utf-8": "This is not text in UTF-8 or UTF-16.",
    "string_pattern_mismatch": "This must be 1 to 32 of a-z, 0-9, dot, dash and underscore, first a letter or digit.",
    "string_too_long": "This is too long.",
    "string_too_short": "This is empty.",
    "string_type": "This must be text.",
    "too-few-columns": "The line has fewer columns than the first row names.",
    "too-large": "The line is too large.",
    "too-many-columns": "The line has more columns than the first row names.",
    "too_long": "This is too long.",
    "too_short": "This is empty.",
    "user-exists": "The project and env have a user of this login already.",
    "unknown-parameter": "The otpauth address has a parameter that may change its codes, and that is not known here.",
    "unsupported-algorithm": "The algorithm of an otpauth address must be SHA1, SHA256 or SHA512.",
    "unsupported-digits": "The digits of an otpauth address must be 6 to 10.",
    "unsupported-period": "The period of an otpauth address must be 1 to 120 seconds.",
    "unsupported-scheme": "This must be base32 or an otpauth://totp/ address: counters give no such codes.",
    "uuid_parsing": "This is not the id of a project.",
}
_WORDS_OF_FIELDS = {
    ("domain", "unknown"): "The project has no such domain.",
    ("env", "unknown"): "The project has no such env.",
    (
        "labels",
        "invalid",
    ): "At most 64 labels; keys of 1 to 63 characters without a colon, values of at most 255.",
    ("login", "invalid"): "This must be an e-mail address or, where any login is allowed, printable text.",
    ("password", "invalid"): "This must be valid Unicode without the NUL character.",
    ("secrets", "invalid"): "This must be a JSON object of at most 256 KiB, nested at most 20 deep.",
    ("totp_seed", "invalid"): "This is no seed of one-time codes: base32, or an otpauth address.",
}


def words_of(field: str, code: str, earlier_line: int | None = None) -> str:
    """The code itself where there are no words for it."""
    if earlier_line is not None:
        return f"Line {earlier_line} has the same account."
    return _WORDS_OF_FIELDS.get((field, code)) or _WORDS.get(code, code)
