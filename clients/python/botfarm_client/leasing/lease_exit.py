"""The end of a `with` block under a lease: the verdict of its release, and the report of a loss."""

from collections.abc import Iterable, Mapping
from logging import getLogger
from typing import get_args

from botfarm_client.errors import BotfarmError, LeaseLostError, SettingError
from botfarm_client.leasing.lease_clock import LeaseClock
from botfarm_client.leasing.verdicts import REASONS, UNFINISHED, Reason, Verdict, Verdicts

logger = getLogger("botfarm_client")

ExceptionType = type[BaseException]
BrokenOn = ExceptionType | Iterable[ExceptionType] | Mapping[ExceptionType, Reason]
Reasons = Mapping[ExceptionType, Reason | None]


def reasons_of(broken_on: BrokenOn) -> Reasons:
    """The exception classes of `broken_on`, each with its reason, if it has one.

    Raises SettingError for anything else; call it before a user is taken.
    """
    given: Iterable[tuple[object, object]]
    if isinstance(broken_on, Mapping):
        given = broken_on.items()
    else:
        given = ((kind, None) for kind in (broken_on if isinstance(broken_on, Iterable) else (broken_on,)))
    found: dict[ExceptionType, Reason | None] = {}
    for kind, reason in given:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise SettingError(
                "broken_on takes classes of exceptions: one, several in a tuple or list, "
                "or a dict of classes with their reasons"
            )
        if reason is not None and reason not in REASONS:
            raise SettingError(f"broken_on has no such reason: {reason!r}; there are {', '.join(REASONS)}")
        found[kind] = next((each for each in get_args(Reason) if each == reason), None)
    return found


def broken_by(failure: BaseException, reasons: Reasons) -> Verdict | None:
    """The verdict after an exception, if it means that the users are broken: by the first class that fits.

    The note leaves out the failure's message, which may contain a credential.
    """
    for kind, reason in reasons.items():
        if isinstance(failure, kind):
            return Verdict("broken", reason, type(failure).__name__)
    return None


def ending(verdicts: Verdicts, failure: BaseException | None, reasons: Reasons) -> Verdict:
    """The verdict on all users that were not marked, for the release at the end of a block.

    A holder that has marked a user as broken knows better than the exception, which names no user.
    """
    if failure is None:
        return Verdict()
    if not verdicts.names_a_broken_user and (broken := broken_by(failure, reasons)):
        return broken
    return UNFINISHED if verdicts.is_chore else Verdict()


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
