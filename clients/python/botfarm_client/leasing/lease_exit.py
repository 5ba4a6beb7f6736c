"""The end of a `with` block under a lease: the outcome of its release, and the report of a loss."""

from collections.abc import Iterable
from logging import getLogger

from botfarm_client.errors import BotfarmError, LeaseLostError, SettingError
from botfarm_client.leasing.lease_clock import LeaseClock
from botfarm_client.leasing.lease_state import Outcome

logger = getLogger("botfarm_client")


ExceptionTypes = type[BaseException] | Iterable[type[BaseException]]


def exception_types(broken_on: ExceptionTypes) -> tuple[type[BaseException], ...]:
    """The exception classes of `broken_on`.

    Raises SettingError for anything else; call it before a user is taken.
    """
    given: tuple[object, ...] = tuple(broken_on) if isinstance(broken_on, Iterable) else (broken_on,)
    kinds = tuple(kind for kind in given if isinstance(kind, type) and issubclass(kind, BaseException))
    if len(kinds) < len(given):
        raise SettingError("broken_on takes classes of exceptions: one, or several in a tuple or list")
    return kinds


def ending(
    failure: BaseException | None, broken_on: tuple[type[BaseException], ...]
) -> tuple[Outcome | None, str | None]:
    """The outcome and the note of the release.

    The note leaves out the failure's message, which may contain a credential.
    """
    if failure is not None and isinstance(failure, broken_on):
        return "broken", type(failure).__name__
    return None, None


def settle(lease_clock: LeaseClock, failure: BaseException | None, not_released: BotfarmError | None) -> None:
    """Raises LeaseLostError if the lease was lost and the block ended without an exception.

    Else logs what went wrong.
    """
    loss = lease_clock.loss
    if loss is not None:
        logger.warning("%s", loss)
        if failure is None:
            raise LeaseLostError(*loss.args)
        if not isinstance(failure, LeaseLostError):
            failure.add_note(str(loss))
    elif not_released is not None:
        warn_of_what_is_left(lease_clock, not_released)


def warn_of_what_is_left(lease_clock: LeaseClock, not_released: BotfarmError) -> None:
    logger.warning(
        "lease %s was not released (%s): it ends by itself, in %.0f s at the latest",
        *(lease_clock.lease_id, not_released, lease_clock.expires_in),
    )
