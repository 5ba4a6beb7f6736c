"""The cookie's attributes, and which pages may use it."""

import pytest
from fastapi import Request, Response

from botfarm.errors import ForbiddenError
from botfarm.services.access.sessions import Badge
from botfarm.web.http.session_cookie import SessionCookie, require_same_origin


def request(method: str = "POST", *, scheme: str = "https", **headers: str) -> Request:
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": method, "scheme": scheme, "headers": named})


def attributes(response: Response) -> tuple[str, set[str]]:
    pair, *others = response.headers["set-cookie"].split("; ")
    return pair, {other.lower() for other in others}


def test_the_cookie_is_for_this_host_over_https_and_for_no_script() -> None:
    response = Response()
    SessionCookie(insecure=False, port=8000).set(response, Badge("a.b.c", 90.7))
    pair, others = attributes(response)
    assert pair == "__Host-botfarm=a.b.c"
    assert others == {"httponly", "secure", "samesite=strict", "path=/", "max-age=90"}


def test_over_plain_http_the_cookies_name_has_the_port() -> None:
    response = Response()
    SessionCookie(insecure=True, port=8000).set(response, Badge("a.b.c", 90))
    pair, others = attributes(response)
    assert pair == "botfarm-8000=a.b.c"
    assert others == {"httponly", "samesite=strict", "path=/", "max-age=90"}


@pytest.mark.parametrize("insecure", [True, False])
def test_the_cookie_is_read_by_its_name_and_cleared_as_it_was_set(*, insecure: bool) -> None:
    cookie = SessionCookie(insecure=insecure, port=8000)
    assert cookie.read(request(cookie=f"a=b; {cookie.name}=x.y.z")) == "x.y.z"
    assert cookie.read(request(cookie="a=b")) is None
    other = SessionCookie(insecure=not insecure, port=8000)
    assert other.read(request(cookie=f"{cookie.name}=x.y.z")) is None
    response = Response()
    cookie.clear(response)
    pair, others = attributes(response)
    assert pair == f'{cookie.name}=""'
    assert "max-age=0" in others
    assert ("secure" in others) is not insecure


def test_a_farm_on_another_port_of_this_host_does_not_read_it() -> None:
    """A browser sends it there, too."""
    one, other = (SessionCookie(insecure=True, port=port) for port in (8000, 8001))
    assert other.read(request(cookie=f"{one.name}=x.y.z")) is None


OURS = [
    {},
    {"sec_fetch_site": "same-origin"},
    {"sec_fetch_site": "none"},
    {"sec_fetch_site": "same-origin", "origin": "https://other.test", "host": "farm.test"},
    {"origin": "https://farm.test", "host": "farm.test"},
    {"origin": "https://FARM.test", "host": "farm.test:443"},
    {"origin": "http://127.0.0.1:8000", "host": "127.0.0.1:8000", "scheme": "http"},
    {"origin": "http://[::1]:8000", "host": "[::1]:8000", "scheme": "http"},
    {"origin": "http://farm.test:80", "host": "farm.test", "scheme": "http"},
]
OTHERS = [
    {"sec_fetch_site": "cross-site"},
    {"sec_fetch_site": "same-site", "origin": "https://farm.test", "host": "farm.test"},
    {"sec_fetch_site": ""},
    {"origin": "null", "host": "farm.test"},
    {"origin": "", "host": ""},
    {"origin": "https://evil.test", "host": "farm.test"},
    {"origin": "http://farm.test", "host": "farm.test"},
    {"origin": "http://farm.test:443", "host": "farm.test:443"},
    {"origin": "https://farm.test", "host": "farm.test", "scheme": "http"},
    {"origin": "https://farm.test:8443", "host": "farm.test"},
    {"origin": "http://127.0.0.1:9000", "host": "127.0.0.1:8000"},
    {"origin": "https://farm.test"},
    {"origin": "https://farm.test:port", "host": "farm.test"},
    {"origin": "https://[", "host": "farm.test"},
]


@pytest.mark.parametrize("headers", OURS)
def test_a_page_of_the_farm_or_a_client_without_a_browser_may_change_things(headers: dict[str, str]) -> None:
    require_same_origin(request(**headers))


@pytest.mark.parametrize("headers", OTHERS)
def test_a_page_of_another_site_may_not(headers: dict[str, str]) -> None:
    for method in ("POST", "PATCH", "DELETE", "PUT"):
        with pytest.raises(ForbiddenError, match="another site"):
            require_same_origin(request(method, **headers))
    require_same_origin(request("GET", **headers))
