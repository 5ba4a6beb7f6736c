"""A tiny web shop. One session for each account: a second sign-in throws the first out."""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from shop import pages
from shop.accounts import Account, Accounts

COOKIE = "shop_session"
CustomersPage = Callable[[Request, Account], Awaitable[Response]]


class Shop:
    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def routes(self) -> list[Route]:
        return [
            Route("/", self.catalogue),
            Route("/sign-in", self.sign_in_page),
            Route("/sign-in", self.sign_in, methods=["POST"]),
            Route("/sign-out", self.sign_out, methods=["POST"]),
            Route("/account", self._signed_in(self.account)),
            Route("/cart", self._signed_in(self.cart)),
            Route("/cart", self._signed_in(self.add_to_cart), methods=["POST"]),
            Route("/cart/empty", self._signed_in(self.empty_cart), methods=["POST"]),
            Route("/orders", self._signed_in(self.order), methods=["POST"]),
            Route("/stats", self.stats),
        ]

    async def catalogue(self, request: Request) -> Response:
        session = self._accounts.session(request.cookies.get(COOKIE))
        login = session.account.login if session and not session.is_thrown_out else None
        return HTMLResponse(pages.page("Products", pages.catalogue(), login=login))

    async def sign_in_page(self, request: Request) -> Response:  # noqa: ARG002
        return HTMLResponse(pages.page("Sign in", pages.sign_in_form(), login=None))

    async def sign_in(self, request: Request) -> Response:
        form = await _form(request)
        key = self._accounts.sign_in(form.get("login", ""), form.get("password", ""))
        if key is None:
            content = pages.sign_in_form("This is not the password of an account.")
            return HTMLResponse(pages.page("Sign in", content, login=None), HTTPStatus.FORBIDDEN)
        answer = _see("/account")
        answer.set_cookie(COOKIE, key, httponly=True, samesite="lax")
        return answer

    async def sign_out(self, request: Request) -> Response:
        self._accounts.sign_out(request.cookies.get(COOKIE))
        answer = _see("/")
        answer.delete_cookie(COOKIE)
        return answer

    async def account(self, request: Request, account: Account) -> Response:  # noqa: ARG002
        return HTMLResponse(pages.page("Your account", f"<p>{account.login}</p>", login=account.login))

    async def cart(self, request: Request, account: Account) -> Response:  # noqa: ARG002
        return HTMLResponse(pages.page("Cart", pages.cart_content(account.cart), login=account.login))

    async def add_to_cart(self, request: Request, account: Account) -> Response:
        product = (await _form(request)).get("product", "")
        if product not in pages.PRODUCTS:
            return HTMLResponse("There is no such product.", HTTPStatus.NOT_FOUND)
        account.cart[product] += 1
        return _see("/cart")

    async def empty_cart(self, request: Request, account: Account) -> Response:  # noqa: ARG002
        account.cart.clear()
        return _see("/cart")

    async def order(self, request: Request, account: Account) -> Response:  # noqa: ARG002
        self._accounts.orders += 1
        content = (
            f"<p>Order {self._accounts.orders} of {pages.price(pages.total(account.cart))} is on its way.</p>"
        )
        account.cart.clear()
        return HTMLResponse(pages.page("Thank you", content, login=account.login))

    async def stats(self, request: Request) -> Response:  # noqa: ARG002
        shop = self._accounts
        return JSONResponse({"sign_ins": shop.sign_ins, "orders": shop.orders, "thrown_out": shop.thrown_out})

    def _signed_in(self, page: CustomersPage) -> Callable[[Request], Awaitable[Response]]:
        async def shown(request: Request) -> Response:
            session = self._accounts.session(request.cookies.get(COOKIE))
            if session is None:
                return _see("/sign-in")
            if session.is_thrown_out:
                content = pages.page("Signed out", pages.THROWN_OUT, login=None)
                return HTMLResponse(content, HTTPStatus.UNAUTHORIZED)
            return await page(request, session.account)

        return shown


class Slow:
    """As far away as real shops are."""

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await asyncio.sleep(self._seconds)
        await self._app(scope, receive, send)


def create_app(accounts: Accounts, *, latency: float = 0) -> Starlette:
    return Starlette(routes=Shop(accounts).routes(), middleware=[Middleware(Slow, seconds=latency)])


def _see(path: str) -> RedirectResponse:
    return RedirectResponse(path, HTTPStatus.SEE_OTHER)


async def _form(request: Request) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
