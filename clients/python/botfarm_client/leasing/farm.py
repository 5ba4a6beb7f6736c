from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Self, Unpack

import httpx

from botfarm_client.connection.connection import Connection
from botfarm_client.connection.farm_settings import FarmSettings
from botfarm_client.connection.retrying import carry_out
from botfarm_client.errors import BotfarmError, LeaseLostError
from botfarm_client.leasing.acquiring import LAST_CALL, Acquiring, Grant
from botfarm_client.leasing.chore_line import ChoreLine
from botfarm_client.leasing.holder_requests import PATIENCE, release_steps
from botfarm_client.leasing.lease import Chore, Lease
from botfarm_client.leasing.lease_exit import BrokenOn, reasons_of, warn_of_what_is_left
from botfarm_client.leasing.lease_request import LeaseTerms, WantedLabels, acquiring_for
from botfarm_client.leasing.renewer import Renewer
from botfarm_client.shared import clock
from botfarm_client.shared.fork_hook import call_when_forked


class Botfarm:
    """A farm, for any number of threads. For tasks of an event loop there is `AsyncBotfarm`."""

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        project: str | None = None,
        env: str | None = None,
        domain: str | None = None,
        wait: float | None = None,
        ttl: int | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Settings of the farm, and defaults for its leases.

        Raises SettingError for one that is missing or malformed.

        `url`: where the farm is. Default: BOTFARM_URL, else http://127.0.0.1:8000.
        `token`: an API token. Default: BOTFARM_TOKEN, else the content of the file
        BOTFARM_TOKEN_FILE.
        `project`: the name or id of the system under test. Default: BOTFARM_PROJECT.
        `env`, `domain`, `wait` (seconds), `ttl` (seconds): for each lease that names none of its own,
        see `LeaseTerms`.
        Defaults: BOTFARM_ENV, the project's first domain, 120 seconds, and the project's `default_ttl`.
        `transport`: sends the requests instead of the SDK's own connections; it is closed with the
        farm object.
        """
        self._settings = FarmSettings.of(
            url, token, project=project, env=env, domain=domain, wait=wait, ttl=ttl
        )
        self._connection = Connection(self._settings.url, self._settings.token, transport=transport)
        self._renewer = Renewer(self._connection)
        call_when_forked(self, Botfarm._begin_anew)

    @contextmanager
    def lease(self, *, broken_on: BrokenOn = (), **terms: Unpack[LeaseTerms]) -> Iterator[Lease]:
        """A lease for a `with` block, released at the end of the block, however that ends.

        The terms are those of `acquire`.

        `broken_on`: an exception class, several, or a mapping of classes to reasons. An exception of
        such a class that leaves the block reports the lease's users as broken, unless the block has
        marked a user as broken. A chore that is left by another exception is released as dirty.
        Raises what `acquire` raises, and LeaseLostError at the end of a block that did not notice the
        loss.
        """
        reasons = reasons_of(broken_on)
        lease = self.acquire(**terms)
        try:
            yield lease
        except BaseException as failure:
            lease._leave(failure, reasons)  # noqa: SLF001  ours
            raise
        lease._leave(None)  # noqa: SLF001

    def acquire(self, **terms: Unpack[LeaseTerms]) -> Lease:
        """A lease that is renewed until you release it.

        `LeaseTerms` says what each keyword argument means, with its unit.

        Raises PoolExhaustedError when the wait is over and too few users are free, QuotaExceededError
        when the token holds as many users as it may, FarmUnreachableError when the farm cannot be
        reached, SettingError when project or env is missing, and another ProblemError when the farm
        refuses the request.
        """
        lease = self._take(acquiring_for(self._settings, terms))
        assert lease is not None  # noqa: S101  only a line of chores may end
        return lease

    def chores(
        self,
        *,
        project: str | None = None,
        env: str | None = None,
        domain: str | None = None,
        labels: WantedLabels | None = None,
        ttl: int | None = None,
        owner: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        forever: bool = False,
    ) -> Generator[Chore, None, None]:
        """The users of a pool that wait for a keeper, one after the other; needs the role keeper.

        A chore's lease is renewed while its turn runs. The end of the turn releases it: as it was marked,
        else as `ok`. A loop that is left, by an exception or by `break`, releases it as it was marked,
        else as `dirty`, because a generator cannot tell how it is left. A chore that was released already
        stays as it was released. If its lease is lost, the loop logs a warning and goes on.

        `project`: default: that of the farm object. The other terms are those of `acquire`.
        `forever`: waits for chores until the loop is left, also while the farm is away. By default the
        loop ends when none is due.
        After a chore that ends with the reason `environment` or `rate_limited`, and after a fourth
        failure of one user in a row, the loop rests for 30 seconds, doubled each time up to 5 minutes,
        until a chore ends as `ok`. A loop that is not to run forever ends there, with a warning.
        Raises as `acquire`.
        """
        terms: LeaseTerms = {
            "env": env,
            "domain": domain,
            "labels": labels,
            "ttl": ttl,
            "owner": owner,
            "metadata": metadata,
        }
        return self._turns(ChoreLine(self._settings, terms, project=project, forever=forever))

    def _turns(self, line: ChoreLine) -> Generator[Chore, None, None]:
        while (lease := self._take(line)) is not None:
            chore = Chore(lease)
            try:
                yield chore
            except BaseException as failure:
                lease._leave(failure)  # noqa: SLF001  ours
                raise
            with suppress(LeaseLostError):  # it is logged
                lease._leave(None)  # noqa: SLF001
            line.ended(chore.user.id, chore.verdict)

    def _take(self, source: Acquiring | ChoreLine) -> Lease | None:
        try:
            grant: Grant | None = carry_out(source.steps(), self._connection)
            if grant is None:
                return None
            return Lease(grant, self._connection, self._renewer)
        except BotfarmError:
            raise
        except BaseException:
            with suppress(BotfarmError):
                carry_out(source.taking_back(), self._connection)
            raise

    def close(self) -> None:
        """Releases the leases that are still held, with retries for ten seconds.

        When interrupted, it retries for three more.
        """
        try:
            self._give_back(PATIENCE)
        except BaseException:
            self._give_back(LAST_CALL)
            raise
        finally:
            self._connection.close()

    def _give_back(self, patience: float) -> None:
        """Releases one lease after the other, so that after an interruption the rest is known."""
        until = clock.now() + patience
        for lease_clock in self._renewer.lease_clocks():
            try:
                carry_out(release_steps(lease_clock, until=until), self._connection)
            except LeaseLostError:
                pass  # the holder can see the loss from the lease itself
            except BotfarmError as error:
                warn_of_what_is_left(lease_clock, error)
            self._renewer.remove(lease_clock)

    def _begin_anew(self) -> None:
        """Forgets the leases in a forked process, because they belong to the parent."""
        self._renewer.begin_anew()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
