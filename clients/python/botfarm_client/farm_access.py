"""The farm that a command speaks to; what goes wrong there ends the command with one line."""

from collections.abc import Iterator
from contextlib import contextmanager

from botfarm_client.connection import Connection
from botfarm_client.errors import BotfarmError
from botfarm_client.explanations import explain
from botfarm_client.farm_settings import FarmSettings


@contextmanager
def open_farm(url: str) -> Iterator[Connection]:
    try:
        settings = FarmSettings.of(url)
        with Connection(settings.url, settings.token) as farm:
            yield farm
    except BotfarmError as error:
        raise explain(error, url) from None
