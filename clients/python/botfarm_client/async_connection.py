import httpx

from botfarm_client.calls import API, LIMITS, Bearer, Call, Json, raise_unanswered, read


class AsyncConnection:
    """What `Connection` is to a thread, to the tasks of one event loop."""

    def __init__(self, url: str, token: str, *, client: httpx.AsyncClient | None = None) -> None:
        """A client that is given stays the caller's to close."""
        self._client = client or httpx.AsyncClient(limits=LIMITS)
        self._is_ours = client is None
        self._url = url.rstrip("/")
        self._auth = Bearer(token)

    async def send(self, call: Call) -> Json:
        """Raises as `Connection.send`."""
        try:
            response = await self._client.request(
                call.method, self._url + API + call.path, auth=self._auth, **call.arguments()
            )
        except httpx.HTTPError as error:
            raise_unanswered(error, self._url)
        return read(response, self._url)

    async def close(self) -> None:
        if self._is_ours:
            await self._client.aclose()
