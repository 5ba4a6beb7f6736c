"""Errors of the SDK. All are BotfarmErrors.

BotfarmError
├── SettingError                        a setting is missing or invalid
├── FarmUnreachableError                the farm does not answer
│   └── LostAnswerError                 a request was sent; whether the farm carried it out is unknown
├── UnexpectedAnswerError               another server answers
├── LeaseLostError                      the users may be leased to somebody else by now
└── ProblemError                        the farm refuses a request; one class for each of its slugs
    ├── UnauthenticatedError
    ├── ForbiddenError, NotTheHolderError
    ├── NotFoundError
    │   ├── NoSuchProjectError, NoSuchUserError, NoSuchLeaseError
    │   └── NoSuchPoolError, NoSuchTokenError, NoSuchPageError
    ├── ConflictError
    │   ├── ProjectExistsError, ProjectInUseError, UserExistsError
    │   ├── UserBusyError, UserDirtyError, UserQuarantinedError, UserRetiredError
    │   ├── RotationPendingError, NoRotationError, ChangedMeanwhileError
    │   ├── PoolExhaustedError, PoolTooSmallError
    │   ├── IdempotencyKeyEndedError, WaitSupersededError
    │   └── LeaseIdRequiredError, UseReleaseLeaseError
    ├── LeaseLapsedError
    ├── MalformedJsonError, TooLargeError, UnsupportedMediaTypeError, MethodNotAllowedError
    ├── InvalidRequestError, IdempotencyKeyReusedError
    ├── QuotaExceededError, TooManyWaitersError, SlowDownError
    ├── InternalError
    └── UnavailableError
        └── DatabaseUnavailableError, ShuttingDownError
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from typing_extensions import override


class BotfarmError(Exception):
    """Base of all errors that the SDK raises."""

    retry_after: float | None = None
    """Seconds to wait before a retry, if the farm says so."""


class SettingError(BotfarmError):
    """A setting is missing or invalid. The message never repeats its value."""


class FarmUnreachableError(BotfarmError):
    """The farm does not answer."""


class LostAnswerError(FarmUnreachableError):
    """A request was sent, and its answer did not arrive: whether the farm carried it out is unknown."""


class UnexpectedAnswerError(BotfarmError):
    """The answer is not a farm's: another server is at this address."""


class LeaseLostError(BotfarmError):
    """The lease ended under its holder. Its users may be leased to somebody else by now."""


class ProblemError(BotfarmError):
    """The farm answered with a problem.

    `slug` is the stable name of its kind, `details` the whole document.
    """

    classes: ClassVar[dict[str, type["ProblemError"]]] = {}
    """By slug."""

    @override
    def __init_subclass__(cls, slug: str = "") -> None:
        if slug:
            cls.classes[slug] = cls

    def __init__(self, status: int, problem: Mapping[str, Any], *, retry_after: float | None = None) -> None:
        self.status = status
        self.slug = str(problem.get("type", "")).rpartition(":")[2]
        self.detail = str(problem.get("detail", ""))
        self.details = dict(problem)
        self.retry_after = retry_after
        super().__init__(f"{status} {self.slug}: {self.detail}")


def problem_error(
    status: int, problem: Mapping[str, Any], *, retry_after: float | None = None
) -> ProblemError:
    """An error of the class for its slug. A slug of a later farm gives a plain ProblemError."""
    slug = str(problem.get("type", "")).rpartition(":")[2]
    return ProblemError.classes.get(slug, ProblemError)(status, problem, retry_after=retry_after)


class UnauthenticatedError(ProblemError, slug="unauthenticated"): ...


class ForbiddenError(ProblemError, slug="forbidden"): ...


class NotTheHolderError(ProblemError, slug="not-the-holder"): ...


class NotFoundError(ProblemError): ...


class NoSuchProjectError(NotFoundError, slug="no-such-project"): ...


class NoSuchUserError(NotFoundError, slug="no-such-user"): ...


class NoSuchLeaseError(NotFoundError, slug="no-such-lease"): ...


class NoSuchPoolError(NotFoundError, slug="no-such-pool"):
    """No user has this project, env, domain and these labels: a typo, not a busy pool."""


class NoSuchTokenError(NotFoundError, slug="no-such-token"): ...


class NoSuchPageError(NotFoundError, slug="no-such-page"): ...


class ConflictError(ProblemError): ...


class ProjectExistsError(ConflictError, slug="project-exists"): ...


class ProjectInUseError(ConflictError, slug="project-in-use"): ...


class UserExistsError(ConflictError, slug="user-exists"): ...


class UserBusyError(ConflictError, slug="user-busy"): ...


class UserDirtyError(ConflictError, slug="user-dirty"): ...


class UserQuarantinedError(ConflictError, slug="user-quarantined"): ...


class UserRetiredError(ConflictError, slug="user-retired"): ...


class RotationPendingError(ConflictError, slug="rotation-pending"): ...


class NoRotationError(ConflictError, slug="no-rotation"): ...


class ChangedMeanwhileError(ConflictError, slug="changed-meanwhile"):
    """Only forms of the farm's page meet it, and an apply of another plan."""


class PoolExhaustedError(ConflictError, slug="pool-exhausted"):
    """All users that match are taken, and the wait is over.

    Its numbers are attributes; None where the farm gave none.
    """

    pool = ""
    """`project/env/domain`, as far as the caller gave them."""
    user = ""
    """The login of the one user that was asked for, if one was."""

    def __init__(self, status: int, problem: Mapping[str, Any], *, retry_after: float | None = None) -> None:
        super().__init__(status, problem, retry_after=retry_after)
        self.waited: float | None = problem.get("waited")
        self.total: int | None = problem.get("total")
        self.leased: int | None = problem.get("leased")
        self.resting: int | None = problem.get("resting")
        self.quarantined: int | None = problem.get("quarantined")
        self.waiting: int | None = problem.get("waiting")
        self.next_free_in: float | None = problem.get("next_free_in")

    @override
    def __str__(self) -> str:
        """`pool shop/stage/canary exhausted after 120 s: 12 waiting, next free in 40 s`."""
        if not self.pool:
            return super().__str__()
        due = "none due" if self.next_free_in is None else f"next free in {self.next_free_in:.0f} s"
        after = f" after {self.waited:.0f} s" if round(self.waited or 0) else ""
        what = f"user {self.user} taken" if self.user else f"pool {self.pool} exhausted"
        return f"{what}{after}: {self.waiting or 0} waiting, {due}"


class PoolTooSmallError(ConflictError, slug="pool-too-small"):
    """More users were asked for at once than there are: waiting would not help."""


class IdempotencyKeyEndedError(ConflictError, slug="idempotency-key-ended"): ...


class WaitSupersededError(ConflictError, slug="wait-superseded"): ...


class LeaseIdRequiredError(ConflictError, slug="lease-id-required"): ...


class UseReleaseLeaseError(ConflictError, slug="use-release-lease"): ...


class LeaseLapsedError(ProblemError, slug="lease-lapsed"): ...


class MalformedJsonError(ProblemError, slug="malformed-json"): ...


class TooLargeError(ProblemError, slug="too-large"): ...


class UnsupportedMediaTypeError(ProblemError, slug="unsupported-media-type"): ...


class MethodNotAllowedError(ProblemError, slug="method-not-allowed"): ...


class InvalidRequestError(ProblemError, slug="invalid-request"): ...


class IdempotencyKeyReusedError(ProblemError, slug="idempotency-key-reused"): ...


class QuotaExceededError(ProblemError, slug="quota-exceeded"):
    """The token holds as many users as it may; `held`, `max_leases` and what was asked for, `count`."""

    pool = ""

    def __init__(self, status: int, problem: Mapping[str, Any], *, retry_after: float | None = None) -> None:
        super().__init__(status, problem, retry_after=retry_after)
        self.waited: float | None = problem.get("waited")
        self.held: int | None = problem.get("held")
        self.count: int | None = problem.get("count")
        self.max_leases: int | None = problem.get("max_leases")

    @property
    def is_for_ever(self) -> bool:
        """Whether the request asked for more users than the token may ever hold."""
        return bool(self.count and self.max_leases and self.count > self.max_leases)

    @override
    def __str__(self) -> str:
        """Names the pool, how long the request waited, and the quota.

        `no user of shop/stage/canary after 120 s: this token holds 3 users of the 3 it may, and 1 more ...`
        """
        if not self.pool:
            return super().__str__()
        after = f" after {self.waited:.0f} s" if round(self.waited or 0) else ""
        return (
            f"no user of {self.pool}{after}: this token holds {self.held} users "
            f"of the {self.max_leases} it may, and {self.count} more was wanted"
        )


class TooManyWaitersError(ProblemError, slug="too-many-waiters"): ...


class SlowDownError(ProblemError, slug="slow-down"): ...


class InternalError(ProblemError, slug="internal"): ...


class UnavailableError(ProblemError): ...


class DatabaseUnavailableError(UnavailableError, slug="database-unavailable"): ...


class ShuttingDownError(UnavailableError, slug="shutting-down"): ...
