"""The identity that a CI gives to its runs, and the farm's token that a run gets for it; without sending anything.

GitHub Actions gives an identity token whenever it is asked, GitLab and others put one into BOTFARM_ID_TOKEN.
The exchange is RFC 8693; docs/ci.md says what a job needs.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from botfarm_client.connection.api_calls import ANSWER_TIMEOUT, API
from botfarm_client.connection.http_messages import read, timeout
from botfarm_client.errors import BotfarmError, IdentityRefusedError, SettingError
from botfarm_client.shared.text_input import variable

_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
_JWT = "urn:ietf:params:oauth:token-type:jwt"
# A token is renewed while a third of its life is left, at most ten minutes, because a request may wait for minutes.
_SHARE_LEFT, _MOST_LEFT = 1 / 3, 600.0
_BETWEEN_TRIES = 30.0
"""Seconds between two tries to renew a token that is still valid."""


@dataclass(frozen=True)
class RunIdentity:
    """Where identity tokens come from: an address to ask, else one token for the whole job."""

    audience: str
    request_url: str | None = None
    request_token: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)

    def request(self) -> httpx.Request | None:
        """The request for an identity token; None when it is here already."""
        if self.request_url is None:
            return None
        return httpx.Request(
            "GET",
            httpx.URL(self.request_url).copy_merge_params({"audience": self.audience}),
            headers={"Authorization": f"Bearer {self.request_token}", "Accept": "application/json"},
            extensions={"timeout": timeout(0).as_dict()},
        )


Credential = str | RunIdentity
"""An API token, or what a run of a CI gets one for."""


def find_identity(url: str) -> RunIdentity | None:
    """The identity of this run of a CI, for the farm at `url`; None when its CI gives none."""
    audience = variable("BOTFARM_AUDIENCE") or url.rstrip("/")
    request_url, request_token = (
        variable("ACTIONS_ID_TOKEN_REQUEST_URL"),
        variable("ACTIONS_ID_TOKEN_REQUEST_TOKEN"),
    )
    if request_url and request_token:
        return RunIdentity(audience, request_url, request_token)
    token = variable("BOTFARM_ID_TOKEN")
    return RunIdentity(audience, token=token) if token else None


def missing_identity(url: str) -> SettingError:
    """The error for a run without any token, with what its CI needs."""
    if variable("GITHUB_ACTIONS"):
        hint = "give the job `permissions: id-token: write`, or set BOTFARM_TOKEN"
    elif variable("GITLAB_CI"):
        hint = f"give the job `id_tokens: BOTFARM_ID_TOKEN: aud: {url}`, or set BOTFARM_TOKEN"
    else:
        hint = "set BOTFARM_TOKEN, or BOTFARM_TOKEN_FILE to a file that holds it"
    return SettingError(f"no token: {hint}")


@dataclass
class RunToken:
    """The farm's token of this run, and when to exchange a new identity token for the next one."""

    url: str
    identity: RunIdentity
    now: Callable[[], float] = time.monotonic
    _token: str | None = field(default=None, repr=False)
    _ends_at: float = 0.0
    _renew_at: float = 0.0

    @property
    def is_due(self) -> bool:
        return self._token is None or self.now() >= self._renew_at

    def sign(self, request: httpx.Request) -> None:
        request.headers["Authorization"] = f"Bearer {self._token}"

    def refused(self, request: httpx.Request) -> None:
        """Forgets the token of this request, which the farm does not know any more, unless there is a newer one."""
        if request.headers.get("Authorization") == f"Bearer {self._token}":
            self._token = None

    def exchange(self, answer: httpx.Response | None) -> httpx.Request:
        """The request to the farm, with the answer to `RunIdentity.request`. Raises IdentityRefusedError."""
        identity = self.identity.token if answer is None else _value_of(answer)
        fields = {"grant_type": _GRANT, "subject_token_type": _JWT, "subject_token": identity}
        return httpx.Request(
            "POST",
            f"{self.url}{API}/auth/token",
            data=fields,
            extensions={"timeout": timeout(0, ANSWER_TIMEOUT).as_dict()},
        )

    def keep(self, answer: httpx.Response) -> None:
        """Keeps the token of the farm's answer. Raises IdentityRefusedError, and what `read` raises."""
        if answer.status_code == httpx.codes.BAD_REQUEST:
            raise IdentityRefusedError(_refused(self.identity))
        document = read(answer, self.url)
        token, seconds = document.get("access_token"), document.get("expires_in")
        if not isinstance(token, str) or not isinstance(seconds, int):
            raise IdentityRefusedError("what answers the token exchange is no farm: check BOTFARM_URL")
        self._token, now = token, self.now()
        self._ends_at = now + seconds
        self._renew_at = self._ends_at - min(seconds * _SHARE_LEFT, _MOST_LEFT)

    def put_off(self, error: BotfarmError) -> None:
        """Goes on with a token that is still valid. Raises the error when there is none."""
        if self._token is None or self.now() >= self._ends_at:
            raise error
        self._renew_at = self.now() + _BETWEEN_TRIES


def _value_of(answer: httpx.Response) -> str:
    try:
        value = answer.json()["value"] if answer.is_success else None
    except (ValueError, LookupError, TypeError):
        value = None
    if not isinstance(value, str):
        raise IdentityRefusedError(
            f"the CI gives no identity token (status {answer.status_code}): "
            "give the job `permissions: id-token: write`"
        )
    return value


def _refused(identity: RunIdentity) -> str:
    return (
        "the farm refuses this run's identity token: it needs a trust rule whose claims fit, and the audience "
        f"{identity.audience} as its BOTFARM_PUBLIC_URL; `botfarm audit --action exchange_failed` says why"
    )
