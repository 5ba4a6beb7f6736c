"""The end of a `with` block under a lease: how its users are left, and what is said of a lease that was lost."""

from collections.abc import Iterable
from logging import getLogger

from botfarm_client.errors import BotfarmError, LeaseLostError, SettingError
from botfarm_client.leasing.lease_clock import LeaseClock
from botfarm_client.leasing.lease_state import Outcome

logger = getLogger("botfarm_client")


ExceptionTypes = type[BaseException] | Iterable[type[BaseException]]


def exception_types(broken_on: ExceptionTypes) -> tuple[type[BaseException], ...]:
    """To be asked before a user is taken. Raises SettingError."""
    given: tuple[object, ...] = tuple(broken_on) if isinstance(broken_on, Iterable) else (broken_on,)
    kinds = tuple(kind for kind in given if isinstance(kind, type) and issubclass(kind, BaseException))
    if len(kinds) < len(given):
        raise SettingError("broken_on takes classes of exceptions: one, or several in a tuple or list")
    return kinds


def ending(
    failure: BaseException | None, broken_on: tuple[type[BaseException], ...]
) -> tuple[Outcome | None, str | None]:
    """The outcome and the note of the release. The failure's own words stay out of it: they may hold a credential."""
    if failure is not None and isinstance(failure, broken_on):
        return "broken", type(failure).__name__
    return None, None


def settle(lease_clock: LeaseClock, failure: BaseException | None, not_released: BotfarmError | None) -> None:
    """Raises LeaseLostError where the block ended without knowing of it."""
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
