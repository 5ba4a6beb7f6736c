from collections.abc import Iterator
from contextlib import contextmanager

from botfarm.embedded_postgres import EmbeddedPostgresError
from botfarm.errors import BotfarmError
from botfarm.settings import SettingsError
from botfarm_client.cli import CommandError


@contextmanager
def one_line_errors() -> Iterator[None]:
    """What a person can mend is one line, without a traceback."""
    try:
        yield
    except (SettingsError, EmbeddedPostgresError) as error:
        raise CommandError(str(error)) from None
    except BotfarmError as error:
        raise CommandError(error.detail) from None
