"""Transports that sign each request with the token of this run of a CI, and renew it in time."""

import asyncio
import threading

import httpx
from typing_extensions import override

from botfarm_client.connection.async_transport import AsyncFarmTransport
from botfarm_client.connection.http_messages import failure
from botfarm_client.connection.route import Route
from botfarm_client.connection.run_identity import RunIdentity, RunToken
from botfarm_client.connection.transport import FarmTransport
from botfarm_client.errors import BotfarmError, FarmUnreachableError
from botfarm_client.shared.control_characters import escape_control_characters
from botfarm_client.shared.fork_hook import call_when_forked


class ExchangingTransport(httpx.BaseTransport):
    """Raises what the transport to the farm raises, and IdentityRefusedError when no token is given."""

    def __init__(self, farm: httpx.BaseTransport, token: RunToken) -> None:
        """`farm` is closed with this."""
        self._farm = farm
        self._token = token
        self._lock = threading.Lock()
        call_when_forked(self, ExchangingTransport._begin_anew)

    @override
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Once more with another token when the farm does not take this one, for example after a machine slept."""
        self._sign(request)
        response = self._farm.handle_request(request)
        if not _should_sign_again(request, response):
            return response
        response.read()
        self._token.refused(request)
        self._sign(request)
        return self._farm.handle_request(request)

    @override
    def close(self) -> None:
        self._farm.close()

    def _sign(self, request: httpx.Request) -> None:
        with self._lock:
            if self._token.is_due:
                self._renew()
            self._token.sign(request)

    def _renew(self) -> None:
        try:
            exchange = self._token.exchange(_ask_ci(self._token.identity))
            self._token.keep(_answer(self._farm, exchange))
        except BotfarmError as error:
            self._token.put_off(error)
        except httpx.HTTPError as error:
            self._token.put_off(failure(error, self._token.url))

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()  # another thread of the parent may have held it


class AsyncExchangingTransport(httpx.AsyncBaseTransport):
    """As `ExchangingTransport`, for the tasks of one event loop."""

    def __init__(self, farm: httpx.AsyncBaseTransport, token: RunToken) -> None:
        self._farm = farm
        self._token = token
        self._lock = asyncio.Lock()

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await self._sign(request)
        response = await self._farm.handle_async_request(request)
        if not _should_sign_again(request, response):
            return response
        await response.aread()
        self._token.refused(request)
        await self._sign(request)
        return await self._farm.handle_async_request(request)

    @override
    async def aclose(self) -> None:
        await self._farm.aclose()

    async def _sign(self, request: httpx.Request) -> None:
        async with self._lock:
            if self._token.is_due:
                await self._renew()
            self._token.sign(request)

    async def _renew(self) -> None:
        try:
            exchange = self._token.exchange(await _ask_ci_async(self._token.identity))
            answer = await self._farm.handle_async_request(exchange)
            await answer.aread()
            self._token.keep(answer)
        except BotfarmError as error:
            self._token.put_off(error)
        except httpx.HTTPError as error:
            self._token.put_off(failure(error, self._token.url))


def _should_sign_again(request: httpx.Request, response: httpx.Response) -> bool:
    """A body that comes from an iterator is gone."""
    return response.status_code == httpx.codes.UNAUTHORIZED and isinstance(request.stream, httpx.ByteStream)


def _ask_ci(identity: RunIdentity) -> httpx.Response | None:
    request = identity.request()
    if request is None:
        return None
    transport = FarmTransport(Route.to(str(request.url)))
    try:
        return _answer(transport, request)
    except httpx.HTTPError as error:
        raise _silent_ci(error) from None
    finally:
        transport.close()


async def _ask_ci_async(identity: RunIdentity) -> httpx.Response | None:
    request = identity.request()
    if request is None:
        return None
    transport = AsyncFarmTransport(Route.to(str(request.url)))
    try:
        answer = await transport.handle_async_request(request)
        await answer.aread()
    except httpx.HTTPError as error:
        raise _silent_ci(error) from None
    finally:
        await transport.aclose()
    return answer


def _silent_ci(error: httpx.HTTPError) -> BotfarmError:
    return FarmUnreachableError(
        f"the CI gives no identity token ({escape_control_characters(str(error)) or 'timed out'}): "
        "try again, or set BOTFARM_TOKEN"
    )


def _answer(transport: httpx.BaseTransport, request: httpx.Request) -> httpx.Response:
    response = transport.handle_request(request)
    response.read()
    return response
