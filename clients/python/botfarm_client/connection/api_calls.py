"""A request to the API as the policies yield it, without the connection that sends it and without httpx."""

from dataclasses import dataclass, field
from json import dumps
from typing import Any

DEFAULT_URL = "http://127.0.0.1:8000"
API = "/api/v1"
# Seconds for an answer. The wait that a request asks for, and the time of a long import, come on top.
ANSWER_TIMEOUT = 30.0
# Seconds for which the farm may wait for the next one-time code, and for which a code can be asked to be good.
LONGEST_CODE_WAIT, LONGEST_GOOD_FOR = 31.0, 20

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Call:
    method: str
    path: str
    json: Json | None = field(default=None, repr=False)
    idempotency_key: str | None = None
    wait: float = 0
    """Seconds for which the farm was asked to keep the request open."""
    patience: float = ANSWER_TIMEOUT
    """Seconds for the answer, beside the wait."""

    def headers(self) -> dict[str, str]:
        headers = {"Idempotency-Key": self.idempotency_key} if self.idempotency_key else {}
        return headers if self.json is None else {**headers, "Content-Type": "application/json"}

    def content(self) -> bytes | None:
        """The JSON body.

        Raises TypeError or ValueError without the encoder's frames, whose arguments pytest would
        report.
        """
        if self.json is None:
            return None
        try:
            return dumps(self.json, allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            raise type(error)(str(error)) from None
