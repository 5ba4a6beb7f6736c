"""The errors of the farm.

BotfarmError
├── UnauthenticatedError
├── InvalidRequestError
│   └── ImportRejectedError
├── MalformedJsonError, TooLargeError, UnsupportedMediaTypeError
├── IdempotencyKeyReusedError
├── NotFoundError
│   ├── NoSuchProjectError, NoSuchUserError, NoSuchLeaseError
│   └── NoSuchPoolError, NoSuchTokenError, NoSuchPageError
├── MethodNotAllowedError
├── ConflictError
│   ├── ProjectExistsError, ProjectInUseError, UserExistsError
│   ├── UserBusyError, UserDirtyError, UserQuarantinedError, UserRetiredError
│   ├── RotationPendingError, NoRotationError, ChangedMeanwhileError
│   ├── PoolExhaustedError
│   │   └── CallerGoneError
│   ├── PoolTooSmallError
│   ├── IdempotencyKeyEndedError, WaitSupersededError
│   └── LeaseIdRequiredError, UseReleaseLeaseError
├── ForbiddenError, NotTheHolderError
├── LeaseLapsedError
├── QuotaExceededError, TooManyWaitersError, SlowDownError
├── InternalError
└── UnavailableError
    ├── DatabaseUnavailableError
    │   └── ConnectionsBusyError, UnknownPoolerError
    ├── KeyMissingError
    └── ShuttingDownError

The table in `botfarm/web/http/error_responses.py` has the HTTP status of each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


class OperatorError(Exception):
    """The error of a command of the server: one line that says what to do. It never reaches HTTP."""


class BotfarmError(Exception):
    """The docstring of each class is the sentence that the caller reads, so it is API text.

    `details` are further fields of the answer, such as numbers.
    """

    def __init__(self, detail: str | None = None, **details: object) -> None:
        self.detail = detail or (type(self).__doc__ or "").strip()
        self.details: Mapping[str, object] = details
        super().__init__(self.detail)


class UnauthenticatedError(BotfarmError):
    """Send a valid token: `Authorization: Bearer <token>`."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """An error in one field of a request. It never has the value, because that may be a secret."""

    field: str
    code: str
    message: str


class InvalidRequestError(BotfarmError):
    """The request does not fit the operation; `errors` names each field."""

    def __init__(self, *errors: FieldError) -> None:
        super().__init__(errors=[{"field": e.field, "code": e.code, "message": e.message} for e in errors])


class ImportRejectedError(InvalidRequestError):
    """Some lines cannot be imported, so nothing was; `errors` names each with its line, field and code."""

    def __init__(self, errors: Sequence[Mapping[str, object]], detail: str | None = None) -> None:
        BotfarmError.__init__(self, detail, errors=list(errors))


class MalformedJsonError(BotfarmError):
    """The body is not valid JSON in UTF-8."""


class TooLargeError(BotfarmError):
    """The body is larger than this operation takes."""


class UnsupportedMediaTypeError(BotfarmError):
    """Send the body with the `Content-Type` of this operation: JSON, or JSON lines for an import."""


class IdempotencyKeyReusedError(BotfarmError):
    """This Idempotency-Key was used for another request: use a new key for a new request."""


class NotFoundError(BotfarmError):
    """No such thing."""


class NoSuchProjectError(NotFoundError):
    """There is no such project."""


class NoSuchUserError(NotFoundError):
    """There is no such user."""


class NoSuchLeaseError(NotFoundError):
    """There is no such lease."""


class NoSuchPoolError(NotFoundError):
    """No user of this project has this env, domain and these labels, busy or not: check the spelling."""


class NoSuchTokenError(NotFoundError):
    """There is no such token."""


class NoSuchPageError(NotFoundError):
    """There is nothing at this address; `/docs` shows what there is."""


class MethodNotAllowedError(BotfarmError):
    """This address does not take this method; the Allow header names those it takes."""


class ConflictError(BotfarmError):
    """The state of the farm does not allow this now."""


class ProjectExistsError(ConflictError):
    """There is a project of this name or id already."""


class ProjectInUseError(ConflictError):
    """The project has users: delete or move them first."""


class UserExistsError(ConflictError):
    """This project and env have a user of this login already."""


class UserBusyError(ConflictError):
    """The user is leased, or rests after a lease."""


class UserQuarantinedError(ConflictError):
    """The user is quarantined: ask for another one, or restore it, which needs the role manager."""


class UserDirtyError(ConflictError):
    """The user is dirty: it waits for a keeper."""


class UserRetiredError(ConflictError):
    """The user is retired, for good."""


class RotationPendingError(ConflictError):
    """Another new password is pending: confirm it, or write back the password that the user has."""


class NoRotationError(ConflictError):
    """No new password of this user is pending."""


class ChangedMeanwhileError(ConflictError):
    """It has changed since this page was made, so nothing was done."""


class PoolExhaustedError(ConflictError):
    """All users that match are taken; `next_free_in` says when the next one is due."""

    @property
    def next_free_in(self) -> float | None:
        """Seconds."""
        seconds = self.details.get("next_free_in")
        return seconds if isinstance(seconds, float) else None


class CallerGoneError(PoolExhaustedError):
    """The caller hung up while it waited."""


class PoolTooSmallError(ConflictError):
    """Fewer users match than were asked for at once: this request can never be met."""


class IdempotencyKeyEndedError(ConflictError):
    """The lease taken under this Idempotency-Key has ended: use a new key."""


class WaitSupersededError(ConflictError):
    """A later request under the same Idempotency-Key waits in this one's place."""


class LeaseIdRequiredError(ConflictError):
    """The lock was taken by `acquire_lease`: give its `lease_id`, so that no stale job can free it."""


class UseReleaseLeaseError(ConflictError):
    """The lease holds several users, which are released together: use `release_lease`."""


class ForbiddenError(BotfarmError):
    """Your role does not allow this."""


class NotTheHolderError(BotfarmError):
    """Only the principal that took the lease may do this."""


class LeaseLapsedError(BotfarmError):
    """The lease has ended; its users may belong to somebody else by now."""


class QuotaExceededError(BotfarmError):
    """This token holds as many users as it may: release some first."""


class TooManyWaitersError(BotfarmError):
    """Too many requests wait, at this replica or of this token: try again, or without `wait_seconds`."""


class SlowDownError(BotfarmError):
    """Too many attempts, or too early: try again after the seconds of Retry-After."""


class InternalError(BotfarmError):
    """An error of the farm itself, not of the request; the log has it under this request_id."""


class UnavailableError(BotfarmError):
    """Try again."""


class DatabaseUnavailableError(UnavailableError):
    """The database does not answer; nothing was changed that was not acknowledged."""

    def __init__(self, reason: str = "") -> None:
        """`reason` is for the log and for the person at a terminal, never for callers of the API."""
        super().__init__()
        self.reason = reason


class ConnectionsBusyError(DatabaseUnavailableError):
    """All connections of this replica are in use; nothing was asked of the database."""


class UnknownPoolerError(DatabaseUnavailableError):
    """Between this replica and the database is a pooler that it was not told of; nothing was changed."""


class KeyMissingError(UnavailableError):
    """This replica lacks the key of what is stored; another one may have it."""


class ShuttingDownError(UnavailableError):
    """This replica is shutting down; another one will answer."""
