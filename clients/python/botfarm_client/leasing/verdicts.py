"""The verdicts of a holder on its users. They are kept until the release, which sends them."""

from dataclasses import dataclass
from typing import Literal, get_args

from botfarm_client.connection.api_calls import Json

Outcome = Literal["ok", "dirty", "broken"]
Reason = Literal[
    "credential_rejected", "locked_out", "captcha", "mfa", "data", "rate_limited", "environment", "other"
]
OUTCOMES: tuple[str, ...] = get_args(Outcome)
REASONS: tuple[str, ...] = get_args(Reason)


@dataclass(frozen=True)
class Verdict:
    """Raises ValueError for an outcome or a reason that does not exist, and for a reason of `ok`."""

    outcome: Outcome | None = None
    """Nothing is said: the farm takes it as `ok`."""
    reason: Reason | None = None
    note: str | None = None

    def __post_init__(self) -> None:
        if self.outcome is not None and self.outcome not in OUTCOMES:
            raise ValueError(f"no such outcome: {self.outcome!r}; there are {', '.join(OUTCOMES)}")
        if self.reason is not None and self.reason not in REASONS:
            raise ValueError(f"no such reason: {self.reason!r}; there are {', '.join(REASONS)}")
        if self.reason is not None and self.outcome not in {"dirty", "broken"}:
            raise ValueError("a reason goes with the outcomes dirty and broken")

    def document(self) -> Json:
        return {name: value for name, value in vars(self).items() if value is not None}


UNFINISHED = Verdict("dirty", note="the chore was not finished")


class Verdicts:
    """What the release of one lease says: of all users, and of each user that was marked."""

    def __init__(self, grant: Json) -> None:
        self.is_chore = grant.get("purpose") == "chore"
        self._user_ids = [str(user["id"]) for user in grant.get("users", [])]
        self._marks: dict[str, Verdict] = {}
        self._of_all: Verdict | None = None

    def mark(self, user_id: str, verdict: Verdict) -> None:
        """The last mark of a user counts."""
        self._marks[user_id] = verdict

    @property
    def names_a_broken_user(self) -> bool:
        return any(verdict.outcome == "broken" for verdict in self._marks.values())

    def release(self, of_all: Verdict | None) -> Json:
        """The body of the release.

        Without a word of the holder it repeats that of a release that has failed. A chore is not finished then.
        """
        if of_all is None:
            of_all = self._of_all or (UNFINISHED if self.is_chore else Verdict())
        self._of_all = of_all
        if of_all.outcome is None and len(self._user_ids) == 1:  # its mark is what is said of the lease
            of_all = self._marks.get(self._user_ids[0], of_all)
        users = [{"id": user_id, **verdict.document()} for user_id, verdict in self._marks.items()]
        return {**of_all.document(), **({"users": users} if users else {})}

    def of_user(self, user_id: str) -> Verdict:
        """What the release has said of a user. A lease that was not released says nothing."""
        return self._marks.get(user_id, self._of_all or Verdict())
