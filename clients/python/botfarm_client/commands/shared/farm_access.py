"""The connection of a command to its farm. An error ends the command with one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from botfarm_client.commands.shared.command_errors import CommandError, ExitCode, command_error
from botfarm_client.errors import BotfarmError, SettingError
from botfarm_client.shared.text_input import stripped

if TYPE_CHECKING:
    from botfarm_client.connection.connection import Connection


@contextmanager
def open_farm(url: str) -> Iterator["Connection"]:
    # Imported here, because they import httpx, which takes longer than the help of a command.
    from botfarm_client.connection.connection import Connection  # noqa: PLC0415
    from botfarm_client.connection.farm_settings import FarmSettings, plain_url  # noqa: PLC0415

    try:
        plain_url(stripped(url))
    except SettingError as error:  # the URL may come from an option: wrong usage
        raise CommandError(str(error), exit_code=ExitCode.USAGE) from None
    try:
        settings = FarmSettings.of(url)
        with Connection(settings.url, settings.credential) as farm:
            yield farm
    except BotfarmError as error:
        raise command_error(error, url) from None
