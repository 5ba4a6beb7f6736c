"""The shop as a keeper uses it, over HTTP. In a suite of yours these are its page objects."""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import quote

import httpx


class RejectedError(Exception):
    """The shop does not take the password."""


class Storefront:
    def __init__(self, url: str, *, support_key: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=10, trust_env=False)
        self._support_key = support_key

    @property
    def has_support(self) -> bool:
        return bool(self._support_key)

    def accepts(self, login: str, password: str) -> bool:
        """Signs in, if the password is right. Raises httpx.HTTPError when the shop cannot say."""
        answer = self._http.post("/sign-in", data={"login": login, "password": password})
        if answer.status_code == HTTPStatus.FORBIDDEN:
            return False
        _done(answer)
        return True

    def sign_in(self, login: str, password: str) -> None:
        if not self.accepts(login, password):
            raise RejectedError

    def empty_cart(self) -> None:
        _done(self._http.post("/cart/empty"))

    def change_password(self, password: str) -> None:
        _done(self._http.post("/account/password", data={"password": password}))

    def ask_support_for_password(self, login: str, password: str) -> None:
        path = f"/support/accounts/{quote(login, safe='')}/password"
        _done(
            self._http.post(path, data={"password": password}, headers={"X-Support-Key": self._support_key})
        )

    def session(self) -> tuple[dict[str, Any], datetime]:
        """The session as Playwright's `storageState` has it, and when it ends."""
        (cookie,) = self._http.cookies.jar
        kept = {
            "name": cookie.name,
            "value": cookie.value,
            "domain": self._http.base_url.host,
            "path": "/",
            "expires": cookie.expires,
            "httpOnly": True,
            "secure": False,
            "sameSite": "Lax",
        }
        return {"cookies": [kept], "origins": []}, datetime.fromtimestamp(cookie.expires or 0, UTC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()


def _done(answer: httpx.Response) -> None:
    """Raises httpx.HTTPStatusError, unless the shop did it. It answers a form with the page to see next."""
    if not answer.has_redirect_location or answer.headers["Location"] == "/sign-in":
        answer.raise_for_status()
