"""The leases of one test, or of all tests of a class, of a module, or of a worker of pytest-xdist."""

import os
from collections.abc import Callable
from logging import getLogger
from typing import Any

import pytest

from botfarm_client import Botfarm, Lease, LeasedUser
from botfarm_client.errors import BotfarmError, LeaseLostError, PoolExhaustedError, SettingError
from botfarm_client.leasing.ci_variables import as_owner, this_holder
from botfarm_client.leasing.lease_exit import Reasons, broken_by, reasons_of
from botfarm_client.leasing.verdicts import Verdict
from botfarm_client.pytest_plugin.masks import mask
from botfarm_client.pytest_plugin.post_mortem import POST_MORTEM, PROPERTIES
from botfarm_client.pytest_plugin.scopes import FUNCTION, WORKER, Node, Scope
from botfarm_client.pytest_plugin.settings import duration, failure, setting, terms
from botfarm_client.shared.durations import format_duration
from botfarm_client.shared.explanations import explain

LeaseFactory = Callable[..., Lease]

logger = getLogger("botfarm_client")


class Leases:
    def __init__(self, farm: Botfarm, node: Node, scope: Scope) -> None:
        """`node`: the test, class, module or session that has these leases."""
        self.name = f"the user of {_worker() or 'this run'}" if scope is WORKER else node.nodeid
        self.has_ended = False
        self._farm = farm
        self._node = node
        self._scope = scope
        self._config: pytest.Config = node.config
        self._post_mortem = node.config.stash[POST_MORTEM]
        self._taken: list[Lease] = []
        self._failed: set[str] = set()
        """The tests whose last run has failed."""
        self._kept: set[str] = set()
        self._notes: dict[str, list[str]] = {}
        """What else is said of a lease.

        By its id, as those that are kept for a post-mortem, and those said to be lost.
        """
        self._said_lost: set[str] = set()
        self._broken_on: Reasons = {}
        self._broken: Verdict | None = None

    def take(self, **given: Any) -> Lease:
        wanted = terms(self._config, self._node, given)
        try:
            self._broken_on = {**self._broken_on, **reasons_of(wanted.pop("broken_on", ()))}
        except SettingError as error:
            raise failure(str(error)) from None
        wanted["metadata"] = {**_run(), **wanted.get("metadata", {})}
        try:
            lease = self._farm.acquire(owner=self._owner(), **wanted)
        except BotfarmError as error:
            raise failure(self._explained(error)) from None
        self._taken.append(lease)
        lease.on_credentials(lambda: mask(lease, self._config))
        try:
            mask(lease, self._config)
        except LeaseLostError as lost:
            self._said_lost.add(lease.id)
            raise failure(str(lost)) from None
        if (item := self._post_mortem.item) is not None:
            self.report_to(item)
        return lease

    def take_one(self) -> LeasedUser:
        count = terms(self._config, self._node, {}).get("count", 1)
        if count != 1:
            raise failure(
                f"{self._scope.user} is one user: with count={count} take {self._scope.lease}().users"
            )
        return self.take().user

    def report_to(self, item: pytest.Item) -> None:
        """Adds the leases to the report of a test."""
        found = [each for lease in self._taken for each in _properties(lease)]
        item.user_properties += [each for each in found if each not in item.user_properties]

    def begin_run(self, item: pytest.Item) -> None:
        """Forgets how an earlier run of the test has failed. Releases what is kept for no other test."""
        self._failed.discard(item.nodeid)
        if not self._failed:
            for lease in self._taken:
                if lease.id in self._kept:
                    self._release(lease)
            self._kept.clear()

    def check(self) -> None:
        """Fails the test if a lease is lost. A lease that the test has released is not lost."""
        for lease in self._taken:
            if lease.is_released:
                continue
            try:
                lease.check()
            except LeaseLostError as lost:
                self._said_lost.add(lease.id)
                raise failure(f"{_logins(lease)}: {lost}") from None

    def look_at(self, failure: BaseException, item: pytest.Item) -> None:
        """Decides after a failure whether the users are broken. Keeps them for a post-mortem if wanted.

        Later tests go on with those of a class or module: they are kept when the last test has ended.
        """
        self._broken = broken_by(failure, self._broken_on) or self._broken
        self._failed.add(item.nodeid)
        if self._scope is FUNCTION:
            self._keep()
            return
        for lease, seconds in self._to_keep():
            self._note_kept(lease, f"{format_duration(seconds)} after its last test")

    def story(self) -> str:
        """Lines for the report of a failed test, without credentials: those are shown only by the farm."""
        lines = []
        for lease in self._taken:
            lines.append(f"{_logins(lease)}  (pool {lease.pool}, lease {lease.id})")
            lines += self._notes.get(lease.id, [])
            if lease.lost.is_set():
                self._said_lost.add(lease.id)
                lines.append("lost under the test: somebody else may have used it meanwhile")
        return "\n".join(lines)

    def kept(self) -> list[str]:
        """A line for each lease that is kept for a post-mortem."""
        return [
            f"{_logins(lease)}  for {format_duration(lease.expires_in)}: botfarm leases show {lease.id}, "
            f"botfarm leases release {lease.id}"
            for lease in self._taken
            if lease.id in self._kept
        ]

    def end(self) -> None:
        """Releases all leases that are not kept. Fails the test if a loss was not reported yet."""
        self.has_ended = True
        if self._failed and self._scope is not FUNCTION:
            self._keep()
        losses = []
        for lease in reversed(self._taken):
            if lease.id in self._kept:
                lease.let_go()
            elif (lost := self._release(lease)) and lease.id not in self._said_lost:
                losses.append(f"{_logins(lease)}: {lost}")
        if losses:
            raise failure("; ".join(losses))

    def _keep(self) -> None:
        for lease, seconds in self._to_keep():
            try:
                lease.renew(seconds)
            except BotfarmError as error:
                self._notes[lease.id] = [f"not kept for a post-mortem: {error}"]
                logger.warning("lease %s is not kept for a post-mortem: %s", lease.id, error)
            else:
                self._kept.add(lease.id)
                self._note_kept(lease, f"{format_duration(lease.expires_in)} from now on")
        if self._kept and self not in self._post_mortem.keepers:
            self._post_mortem.keepers.append(self)

    def _to_keep(self) -> list[tuple[Lease, int]]:
        """The leases that are still held and not kept yet, each with seconds; none where nobody wants it."""
        seconds = duration(self._config, "hold-failed")
        left = [lease for lease in self._taken if not lease.is_released and lease.id not in self._kept]
        return [(lease, seconds) for lease in left if seconds]

    def _note_kept(self, lease: Lease, how_long: str) -> None:
        self._notes[lease.id] = [
            f"kept for a post-mortem, for {how_long}",
            f"  to see the password:  botfarm leases show {lease.id}",
            f"  to give it back:      botfarm leases release {lease.id}",
        ]

    def _release(self, lease: Lease) -> LeaseLostError | None:
        """The loss, where the lease had ended before.

        A farm that is away fails no test: the lease ends by itself.
        """
        broken = None if any(each.names_a_broken_user for each in self._taken) else self._broken
        try:
            if broken:
                lease.release(broken.outcome, broken.note, reason=broken.reason)
            else:
                lease.release()
        except LeaseLostError as lost:
            return lost
        except BotfarmError as error:
            logger.warning("lease %s was not released, and ends by itself: %s", lease.id, error)
        return None

    def _explained(self, error: BotfarmError) -> str:
        """One line for an error: an exhausted pool's own message, else the one that commands print."""
        if isinstance(error, PoolExhaustedError):
            return str(error)
        return explain(error, setting(self._config, "url") or "BOTFARM_URL")

    def _owner(self) -> str:
        if self._scope is not WORKER:
            return as_owner(self._node.nodeid)
        return as_owner(" ".join(filter(None, (_worker(), this_holder().owner))))


def _worker() -> str:
    return os.environ.get("PYTEST_XDIST_WORKER", "")


def _run() -> dict[str, str]:
    """Metadata of all leases of this run."""
    holder = this_holder()
    found = {"run_by": holder.owner, **holder.metadata}
    return {**found, "worker": _worker()} if _worker() else found


def _logins(lease: Lease) -> str:
    return ", ".join(user.login for user in lease.users)


def _properties(lease: Lease) -> list[tuple[str, object]]:
    of_lease, of_user = PROPERTIES
    return [(of_lease, lease.id), *((of_user, user.login) for user in lease.users)]
