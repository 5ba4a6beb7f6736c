"""One-time codes (TOTP) of leased users: each is given once, and with enough time left to type it."""

import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from uuid import UUID

from botfarm.crypto.key_ring import KeyRing
from botfarm.crypto.totp import current_code
from botfarm.db.access import audit_queries
from botfarm.db.leasing import lease_queries, one_time_code_queries
from botfarm.db.postgres.engine import Database
from botfarm.domain.access import Principal
from botfarm.domain.credentials import TotpCode
from botfarm.domain.leases import Lease
from botfarm.errors import LeaseLapsedError, NoSuchUserError, SlowDownError, UnavailableError
from botfarm.services.leasing.leases import Leases
from botfarm.services.shared.shutdown import Shutdown
from botfarm.services.stock.sealing import totp_seed

LEAST = 5.0
"""Seconds for which a code that is given stays the code at least."""

_LONGEST_WAIT = 31.0
"""A whole period of the usual 30 seconds, and what a timer may be off."""

logger = logging.getLogger(__name__)


class OneTimeCodes:
    def __init__(self, database: Database, key_ring: KeyRing, leases: Leases, shutdown: Shutdown) -> None:
        self._database = database
        self._key_ring = key_ring
        self._leases = leases
        self._shutdown = shutdown

    async def get(
        self, principal: Principal, lease_id: UUID, user_id: UUID, *, good_for: float = LEAST
    ) -> TotpCode:
        """A code that nobody has got yet and that is good for so many seconds. Waits for the next one if it must.

        Raises NoSuchLeaseError, NotTheHolderError, LeaseLapsedError (also when the lease ends during the wait),
        NoSuchUserError when the lease has no such user or the user no TOTP seed, SlowDownError when the next code
        comes after more than 30 seconds, and ShuttingDownError.
        """
        lease = await self._leases.held_before(principal, lease_id)
        if user_id not in {user.id for user in lease.users}:
            raise NoSuchUserError("The lease has no such user.")
        waited = 0.0
        while True:
            code, pause = await self._try(principal, lease, user_id, good_for=max(LEAST, good_for))
            if pause == 0:
                return code
            waited += pause
            if waited > _LONGEST_WAIT:
                detail = (
                    "The next one-time code comes too late to wait for it here: ask again after Retry-After."
                )
                raise SlowDownError(detail, retry_after=math.ceil(pause))
            await self._shutdown.pause(pause)

    async def _try(
        self, principal: Principal, lease: Lease, user_id: UUID, *, good_for: float
    ) -> tuple[TotpCode, float]:
        """Returns the code of this moment, and the seconds until a code can be given: 0 when this one is."""
        async with self._database.transaction() as session:
            locked = await lease_queries.lock_user_of_lease(
                session, lease.id, user_id, principal=principal.name
            )
            if locked is None:
                raise LeaseLapsedError
            code = self._current(user_id, locked.sealed.totp_seed)
            if code is None:
                raise NoSuchUserError(
                    "The TOTP seed of this user cannot be read: it must be set again."
                    if locked.sealed.totp_seed
                    else "This user has no TOTP seed."
                )
            begin, end = code.period
            used_until = locked.code_used_until or begin
            if used_until > begin or not code.good_for(good_for):
                return code, code.expires_in + max(0.0, (used_until - end).total_seconds())
            await one_time_code_queries.mark_given(session, lease.id, {user_id: code})
            details = {"user_id": user_id}
            await audit_queries.record_of_lease(session, principal, "get_totp", lease, details)
        return code, 0.0

    def of(self, lease: Lease) -> dict[UUID, TotpCode]:
        """The codes of this moment, by the users of a lease that was read with credentials; none is given yet.

        Raises KeyMissingError and KeyRingError, as `readable_lease`.
        """
        codes = {
            user.id: self._current(user.id, user.sealed.totp_seed) for user in lease.users if user.sealed
        }
        return {user_id: code for user_id, code in codes.items() if code and code.good_for(LEAST)}

    async def add_to(self, lease: Lease, codes: Mapping[UUID, TotpCode]) -> Lease:
        """The new lease with those of the codes that nobody has got yet."""
        if not codes:
            return lease
        try:
            async with self._database.autocommit() as session:
                given = await one_time_code_queries.mark_given(session, lease.id, codes)
        except UnavailableError:
            # The holder can ask for a code later, but not for this lease.
            logger.warning("a lease is answered without one-time codes", exc_info=True)
            return lease
        users = (replace(user, totp=codes[user.id]) if user.id in given else user for user in lease.users)
        return replace(lease, users=tuple(users))

    def _current(self, user_id: UUID, seed: str | None) -> TotpCode | None:
        return current_code(totp_seed(self._key_ring, user_id, seed)) if seed else None
