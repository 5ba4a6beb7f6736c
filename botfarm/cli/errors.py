from collections.abc import Iterator
from contextlib import contextmanager

from botfarm.errors import BotfarmError, DatabaseUnavailableError, OperatorError
from botfarm.settings import SettingsError
from botfarm_client.cli import CommandError


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turns errors that a person can mend into one line, without a traceback."""
    try:
        yield
    except (SettingsError, OperatorError) as error:
        raise CommandError(str(error)) from None
    except DatabaseUnavailableError as error:
        raise CommandError(
            f"the database cannot be used ({error.reason}); "
            "see BOTFARM_DATABASE_URL, and for migrate and after-restore BOTFARM_OWNER_URL"
        ) from None
    except BotfarmError as error:
        raise CommandError(error.detail) from None
