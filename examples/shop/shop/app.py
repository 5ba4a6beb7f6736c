"""A tiny web shop. One session for each account: a second sign-in throws the first out."""

import asyncio
import secrets
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
SESSION_SECONDS = 8 * 3600
CustomersPage = Callable[[Request, Account], Awaitable[Response]]


class Shop:
    def __init__(self, accounts: Accounts, *, support_key: str) -> None:
        """`support_key`: what the support desk asks for; without one the desk is closed."""
        self._accounts = accounts
        self._support_key = support_key

    def routes(self) -> list[Route]:
        return [
            Route("/", self.catalogue),
            Route("/sign-in", self.sign_in_page),
            Route("/sign-in", self.sign_in, methods=["POST"]),
            Route("/sign-out", self.sign_out, methods=["POST"]),
            Route("/account", self._signed_in(self.account)),
            Route("/account/password", self._signed_in(self.change_password), methods=["POST"]),
            Route("/support/accounts/{login}/password", self.set_password, methods=["POST"]),
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
        answer.set_cookie(COOKIE, key, max_age=SESSION_SECONDS, httponly=True, samesite="lax")
        return answer

    async def sign_out(self, request: Request) -> Response:
        self._accounts.sign_out(request.cookies.get(COOKIE))
        answer = _see("/")
        answer.delete_cookie(COOKIE)
        return answer

    async def account(self, request: Request, account: Account) -> Response:  # noqa: ARG002
        return HTMLResponse(pages.page("Your account", f"<p>{account.login}</p>", login=account.login))

    async def change_password(self, request: Request, account: Account) -> Response:
        password = (await _form(request)).get("password", "")
        if not password:
            return HTMLResponse("The new password is missing.", HTTPStatus.BAD_REQUEST)
        self._accounts.set_password(account.login, password)
        return _see("/account")

    async def set_password(self, request: Request) -> Response:
        """For the support desk, which helps where the password is not known."""
        key = request.headers.get("X-Support-Key", "")
        if not self._support_key or not secrets.compare_digest(key.encode(), self._support_key.encode()):
            return HTMLResponse("This is not the key of the support desk.", HTTPStatus.FORBIDDEN)
        password = (await _form(request)).get("password", "")
        if not password:
            return HTMLResponse("The new password is missing.", HTTPStatus.BAD_REQUEST)
        self._accounts.set_password(request.path_params["login"], password)
        return Response(status_code=HTTPStatus.NO_CONTENT)

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


def create_app(accounts: Accounts, *, support_key: str = "", latency: float = 0) -> Starlette:
    shop = Shop(accounts, support_key=support_key)
    return Starlette(routes=shop.routes(), middleware=[Middleware(Slow, seconds=latency)])


def _see(path: str) -> RedirectResponse:
    return RedirectResponse(path, HTTPStatus.SEE_OTHER)


async def _form(request: Request) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
