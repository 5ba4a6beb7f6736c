"""The policy of a keeper's loop: where the next chore comes from, and when the loop pauses or ends."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from logging import getLogger

from botfarm_client.connection.farm_settings import FarmSettings
from botfarm_client.connection.retrying import Backoff, Pause, Steps, may_pass
from botfarm_client.errors import BotfarmError, PoolExhaustedError, QuotaExceededError
from botfarm_client.leasing.acquiring import LONGEST_WAIT, Acquiring, Grant
from botfarm_client.leasing.holder_requests import PATIENCE
from botfarm_client.leasing.lease_request import LeaseTerms, acquiring_for
from botfarm_client.leasing.verdicts import Verdict
from botfarm_client.shared import clock

logger = getLogger("botfarm_client")

# Seconds, doubled with each chore that ends like that.
FIRST_REST, LONGEST_REST = 30.0, 300.0
# The site is to blame, so the next chore would fare no better.
OF_THE_SITE = frozenset({"environment", "rate_limited"})
# Failures of one user in a row; the farm quarantines it by default after as many.
TRIES = 3


class ChoreLine:
    def __init__(
        self,
        settings: FarmSettings,
        terms: LeaseTerms,
        *,
        project: str | None = None,
        forever: bool,
        now: Callable[[], float] = clock.now,
    ) -> None:
        """`project`: instead of that of the settings. `forever`: waits, instead of ending when none is due.

        Raises SettingError.
        """
        self._settings = replace(settings, project=project or settings.project)
        self._terms: LeaseTerms = {**terms, "purpose": "chore", "wait": LONGEST_WAIT if forever else 0}
        self._forever = forever
        self._now = now
        self._acquiring = self._new_acquiring()
        self._is_reached = False
        self._failures: Counter[str] = Counter()
        self._rest, self._next_rest, self._why = 0.0, FIRST_REST, ""

    def steps(self) -> Steps[Grant | None]:
        """The steps to the next chore. None ends the loop.

        A loop that runs forever outlives a farm that is away, once it has reached it.
        Raises what the acquire raises.
        """
        if self._rest and not self._forever:
            logger.warning("the chores end early: %s", self._why)
            return None
        if self._rest:
            yield Pause(self._rest)
            self._rest = 0.0
        since, backoff, is_away = self._now(), Backoff(), False
        while True:
            self._acquiring = self._new_acquiring()
            try:
                grant = yield from self._acquiring.steps()
            except PoolExhaustedError:
                self._is_reached = True
                if not self._forever:
                    return None
                since, backoff, is_away = self._now(), Backoff(), False
            except BotfarmError as failure:
                pause = max(failure.retry_after or 0.0, backoff.pause())
                if not self._outlives(failure, since=since, pause=pause):
                    raise
                if not is_away:  # once for each time that it is away
                    logger.warning("no chore for now, the farm is asked again: %s", failure)
                is_away = True
                yield Pause(pause)
            else:
                self._is_reached = True
                return grant

    def taking_back(self) -> Steps[None]:
        """As `Acquiring.taking_back`."""
        return self._acquiring.taking_back()

    def ended(self, user_id: str, verdict: Verdict) -> None:
        """A chore has ended. The loop rests when another one would fare no better."""
        if verdict.outcome in {None, "ok"}:
            self._failures.pop(user_id, None)
            self._next_rest = FIRST_REST
            return
        self._failures[user_id] += 1
        if verdict.reason in OF_THE_SITE:
            self._why = f"the last one ended with {verdict.reason}"
        elif self._failures[user_id] > TRIES:
            self._why = f"the user {user_id} is due again after {self._failures[user_id]} tries"
        else:
            return
        self._rest, self._next_rest = self._next_rest, min(LONGEST_REST, 2 * self._next_rest)

    def _outlives(self, failure: BotfarmError, *, since: float, pause: float) -> bool:
        if isinstance(failure, QuotaExceededError):
            return self._forever and not failure.is_for_ever
        is_in_time = self._now() + pause <= since + PATIENCE
        return may_pass(failure) and (is_in_time or (self._forever and self._is_reached))

    def _new_acquiring(self) -> Acquiring:
        return acquiring_for(self._settings, self._terms, now=self._now)
