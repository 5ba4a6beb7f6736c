from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Self

import httpx

from botfarm_client.connection.connection import Connection
from botfarm_client.connection.farm_settings import FarmSettings
from botfarm_client.connection.retrying import carry_out
from botfarm_client.errors import BotfarmError, LeaseLostError
from botfarm_client.leasing.acquiring import LAST_CALL, Acquiring
from botfarm_client.leasing.lease import Lease
from botfarm_client.leasing.lease_clock import PATIENCE
from botfarm_client.leasing.lease_exit import ExceptionTypes, exception_types, warn_of_what_is_left
from botfarm_client.leasing.lease_request import lease_request
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
        """What is not given is BOTFARM_URL, BOTFARM_TOKEN (or BOTFARM_TOKEN_FILE), BOTFARM_PROJECT and BOTFARM_ENV.

        The project is its name or its id. `env`, `domain`, `wait` and `ttl` (both in seconds) are those of each lease that
        names none of its own; unless they are given, `domain` is `regular`, `wait` 120 and `ttl` the project's. Raises SettingError.
        """
        self._settings = FarmSettings.of(
            url, token, project=project, env=env, domain=domain, wait=wait, ttl=ttl
        )
        self._connection = Connection(self._settings.url, self._settings.token, transport=transport)
        self._renewer = Renewer(self._connection)
        call_when_forked(self, Botfarm._begin_anew)

    @contextmanager
    def lease(
        self,
        *,
        env: str | None = None,
        domain: str | None = None,
        count: int = 1,
        labels: Mapping[str, str] | None = None,
        wait: float | None = None,
        ttl: int | None = None,
        priority: int = 0,
        owner: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        broken_on: ExceptionTypes = (),
    ) -> Iterator[Lease]:
        """As `acquire`, and released at the end of the block, however that ends.

        What is raised under the lease and is a `broken_on` leaves its users as broken. Raises LeaseLostError at the
        end of a block that did not notice the loss.
        """
        kinds = exception_types(broken_on)
        lease = self.acquire(
            env=env,
            domain=domain,
            count=count,
            labels=labels,
            wait=wait,
            ttl=ttl,
            priority=priority,
            owner=owner,
            metadata=metadata,
        )
        try:
            yield lease
        except BaseException as failure:
            lease._leave(failure, kinds)  # noqa: SLF001  ours
            raise
        lease._leave(None)  # noqa: SLF001

    def acquire(
        self,
        *,
        env: str | None = None,
        domain: str | None = None,
        count: int = 1,
        labels: Mapping[str, str] | None = None,
        wait: float | None = None,
        ttl: int | None = None,
        priority: int = 0,
        owner: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Lease:
        """A lease that is renewed until you release it; `wait` and `ttl` are seconds. Terms not given are the farm's.

        Raises PoolExhaustedError or QuotaExceededError when the wait is over, FarmUnreachableError, SettingError and
        any other ProblemError.
        """
        wanted = lease_request(
            self._settings,
            env=env,
            domain=domain,
            count=count,
            labels=labels,
            ttl=ttl,
            priority=priority,
            owner=owner,
            metadata=metadata,
        )
        acquiring = Acquiring(wanted, wait=self._settings.wait if wait is None else wait)
        try:
            grant = carry_out(acquiring.steps(), self._connection)
            return Lease(grant, self._connection, self._renewer, pool=acquiring.pool)
        except BotfarmError:
            raise
        except BaseException:
            with suppress(BotfarmError):
                carry_out(acquiring.taking_back(), self._connection)
            raise

    def close(self) -> None:
        """Releases the leases that are still held, and tries it for ten seconds; interrupted, once more for three."""
        try:
            self._give_back(PATIENCE)
        except BaseException:
            self._give_back(LAST_CALL)
            raise
        finally:
            self._connection.close()

    def _give_back(self, patience: float) -> None:
        """One after the other, so that those that are left after an interruption are known."""
        until = clock.now() + patience
        for lease_clock in self._renewer.lease_clocks():
            try:
                carry_out(lease_clock.releasing(None, None, until=until), self._connection)
            except LeaseLostError:
                pass  # its holder was told, or did not look
            except BotfarmError as error:
                warn_of_what_is_left(lease_clock, error)
            self._renewer.remove(lease_clock)

    def _begin_anew(self) -> None:
        """In a forked process: the leases are the parent's."""
        self._renewer.begin_anew()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
