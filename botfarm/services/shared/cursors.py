"""Opaque cursors of pages: each encodes the key of the last item of the page before."""

import base64
import binascii
import json

from botfarm.errors import FieldError, InvalidRequestError

MAX_BIGINT = 2**63 - 1


def encode_cursor(*key: object) -> str:
    return base64.urlsafe_b64encode(json.dumps([str(part) for part in key]).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, length: int) -> list[str]:
    """The parts of the key. Raises InvalidRequestError unless it is a cursor of `length` parts."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        key = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError):
        key = None
    if not isinstance(key, list) or len(key) != length or not all(isinstance(part, str) for part in key):
        raise invalid_cursor()
    return key


def decode_bigints(cursor: str, length: int) -> list[int]:
    """The key as numbers that fit PostgreSQL's bigint.

    Raises InvalidRequestError unless there are `length` of them.
    """
    parts = decode_cursor(cursor, length)
    # The length is checked first, because parsing a very long number takes long.
    if not all(part.isdecimal() and len(part) <= len(str(MAX_BIGINT)) for part in parts):
        raise invalid_cursor()
    numbers = [int(part) for part in parts]
    if max(numbers) > MAX_BIGINT:
        raise invalid_cursor()
    return numbers


def invalid_cursor() -> InvalidRequestError:
    return InvalidRequestError(
        FieldError("cursor", "invalid", "Not a cursor of this list: start without one")
    )
