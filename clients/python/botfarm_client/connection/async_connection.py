import httpx

from botfarm_client.connection.api_calls import Call, Json
from botfarm_client.connection.async_transport import AsyncFarmTransport
from botfarm_client.connection.exchanging import AsyncExchangingTransport
from botfarm_client.connection.http_messages import FarmRequests, raise_unanswered, read
from botfarm_client.connection.route import Route
from botfarm_client.connection.run_identity import Credential, RunIdentity, RunToken


class AsyncConnection:
    """A `Connection` for the tasks of one event loop."""

    def __init__(
        self, url: str, credential: Credential, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        """As `Connection`."""
        self._url, self._way = url.rstrip("/"), ""
        if transport is None:
            route = Route.to(self._url)
            transport, self._way = AsyncFarmTransport(route), route.description
        if isinstance(credential, RunIdentity):
            transport = AsyncExchangingTransport(transport, RunToken(self._url, credential))
        self._transport = transport
        self._is_closed = False
        self._requests = FarmRequests(self._url, "" if isinstance(credential, RunIdentity) else credential)

    async def send(self, call: Call) -> Json:
        """Raises as `Connection.send`."""
        if self._is_closed:
            raise RuntimeError("this farm was closed")
        request = self._requests.of_call(call)
        try:
            response = await self._transport.handle_async_request(request)
            await response.aread()
        except httpx.HTTPError as error:
            raise_unanswered(error, f"{self._url}{self._way}")
        return read(response, self._url, self._way)

    async def close(self) -> None:
        self._is_closed = True
        await self._transport.aclose()
