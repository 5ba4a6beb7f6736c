"""The text of API tokens: `bf_<id>_<secret><checksum>`.

Scanners of leaked secrets find a token by its prefix.

By its checksum the farm refuses a mistyped token without asking the database. The checksum is no secret,
because anybody can compute it. The secret has 256 random bits, so it is stored as a fast hash.
"""

import hashlib
import secrets
import string
import zlib
from dataclasses import dataclass, field

_ALPHABET = string.digits + string.ascii_letters
ID_LENGTH, SECRET_LENGTH, CHECKSUM_LENGTH = 12, 43, 6
TOKEN_LENGTH = len("bf__") + ID_LENGTH + SECRET_LENGTH + CHECKSUM_LENGTH


@dataclass(frozen=True, slots=True)
class ApiToken:
    id: str
    secret: str = field(repr=False)

    @property
    def secret_hash(self) -> bytes:
        return hashlib.sha256(self.secret.encode()).digest()

    def write(self) -> str:
        """The token itself, to be shown once."""
        return f"bf_{self.id}_{self.secret}{_checksum(self.id, self.secret)}"


def new_token() -> ApiToken:
    return ApiToken(_random(ID_LENGTH), _random(SECRET_LENGTH))


def parse_token(text: str) -> ApiToken | None:
    """None for a text that is no token of any farm."""
    if len(text) != TOKEN_LENGTH or not text.isascii():
        return None
    prefix, _, rest = text.partition("_")
    token_id, _, tail = rest.partition("_")
    secret, checksum = tail[:SECRET_LENGTH], tail[SECRET_LENGTH:]
    if prefix != "bf" or len(token_id) != ID_LENGTH or _checksum(token_id, secret) != checksum:
        return None
    return ApiToken(token_id, secret)


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _checksum(token_id: str, secret: str) -> str:
    number = zlib.crc32(f"bf_{token_id}_{secret}".encode())
    digits = ""
    for _ in range(CHECKSUM_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
