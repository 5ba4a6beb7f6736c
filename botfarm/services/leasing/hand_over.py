"""The last step of each acquire: the caller gets the credentials, or the farm takes the lease back."""

import time

from botfarm import metrics
from botfarm.crypto.key_ring import KeyRing
from botfarm.db.leasing import lease_queries, release_queries
from botfarm.db.leasing.release_queries import Release, Rest
from botfarm.db.postgres.engine import Database
from botfarm.domain.leases import Grant, Lease, LeaseTerms, Outcome, Purpose, Verdict
from botfarm.domain.pools import Pool
from botfarm.errors import CallerGoneError, KeyMissingError
from botfarm.services.leasing.one_time_codes import OneTimeCodes
from botfarm.services.shared.caller_connection import CallerConnection
from botfarm.services.shared.notifier import Notifier
from botfarm.services.stock.sealing import readable_lease

UNCLAIMED_TTL = 30.0
"""Seconds that a new lease lives whose caller disconnected before the answer, and may retry with its key."""


class HandOver:
    def __init__(
        self, database: Database, key_ring: KeyRing, notifier: Notifier, codes: OneTimeCodes
    ) -> None:
        self._database = database
        self._key_ring = key_ring
        self._notifier = notifier
        self._codes = codes

    async def __call__(
        self, grant: Grant, terms: LeaseTerms, *, since: float, connection: CallerConnection
    ) -> Grant:
        """The grant with readable credentials, asked for `since` then (monotonic clock).

        Takes the lease back when they are not, or when the caller has disconnected.
        Raises KeyMissingError, CallerGoneError.
        """
        lease = grant.lease
        try:
            readable, codes = readable_lease(lease, self._key_ring), self._codes.of(lease)
        except KeyMissingError:
            if not grant.replayed:
                # A retry may reach a process that has the encryption key.
                await self._abandon(lease, terms, "the process that took it lacks the encryption key")
            raise
        except Exception:  # for any error: the caller gets no answer, and cannot release the lease
            if not grant.replayed:
                # The user rests, so that the next request gets another one.
                await self._take_back(
                    lease, Outcome.BROKEN, "the stored credentials cannot be read", "lock_delay"
                )
            raise
        if not grant.replayed and await connection.is_closed():
            await self._abandon(lease, terms, "the caller was gone before its answer")
            raise CallerGoneError
        if lease.purpose is Purpose.TEST:
            count_acquire(lease.project_name, lease.pool, "replayed" if grant.replayed else "granted")
        if lease.purpose is Purpose.TEST and not grant.replayed:
            labels = metrics.pool_labels(lease.project_name, lease.pool.env, lease.pool.domain)
            metrics.acquire_wait_seconds.labels(*labels).observe(time.monotonic() - since)
        return Grant(await self._codes.add_to(readable, codes), grant.replayed)

    async def _abandon(self, lease: Lease, terms: LeaseTerms, note: str) -> None:
        """Ends a lease whose caller gets no answer.

        With a key the lease lives on for a moment, because a retry may come.
        """
        if terms.idempotency_key is None:
            await self._take_back(lease, None, note, "none")
            return
        async with self._database.autocommit() as session:
            await lease_queries.cut_short(session, lease, seconds=UNCLAIMED_TTL)

    async def _take_back(self, lease: Lease, outcome: Outcome | None, note: str, rest: Rest) -> None:
        async with self._database.autocommit() as session:
            release = Release(lease.id, lease.principal, Verdict(outcome, note=note), rest=rest)
            ended = await release_queries.release_judged(session, release)
        if ended:
            self._notifier.freed(ended.pool.project_id)
            metrics.count_released_lease(ended)


def count_acquire(project_name: str, pool: Pool, result: str) -> None:
    metrics.acquire_total.labels(*metrics.pool_labels(project_name, pool.env, pool.domain), result).inc()
