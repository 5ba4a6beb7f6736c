"""The farm that a command speaks to; what goes wrong there ends the command with one line."""

from collections.abc import Iterator
from contextlib import contextmanager

from botfarm_client.command_errors import CommandError, ExitCode
from botfarm_client.connection import Connection
from botfarm_client.errors import BotfarmError, SettingError
from botfarm_client.explanations import explain
from botfarm_client.farm_settings import FarmSettings, plain_url
from botfarm_client.text_input import stripped


@contextmanager
def open_farm(url: str) -> Iterator[Connection]:
    try:
        plain_url(stripped(url))
    except SettingError as error:  # it comes from an option
        raise CommandError(str(error), exit_code=ExitCode.USAGE) from None
    try:
        settings = FarmSettings.of(url)
        with Connection(settings.url, settings.token) as farm:
            yield farm
    except BotfarmError as error:
        raise explain(error, url) from None
