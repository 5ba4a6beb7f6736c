"""The credentials of a leased user, for the holder: its TOTP code, and the write-back of changed ones."""

from dataclasses import replace
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.crypto.key_ring import KeyRing
from botfarm.crypto.totp import current_code
from botfarm.db.access import audit_queries
from botfarm.db.leasing import lease_queries
from botfarm.db.postgres.engine import Database
from botfarm.domain.access import Principal
from botfarm.domain.credentials import SealedCredentials, TotpCode
from botfarm.domain.leases import Lease, LeasedUser
from botfarm.errors import LeaseLapsedError, NoSuchUserError
from botfarm.services.leasing.leases import Leases
from botfarm.services.stock.sealing import Secrets, merge_secrets, readable, seal_password, totp_seed


class LeaseCredentials:
    def __init__(self, database: Database, key_ring: KeyRing, leases: Leases) -> None:
        self._database = database
        self._key_ring = key_ring
        self._leases = leases

    async def totp(self, principal: Principal, lease_id: UUID, user_id: UUID) -> TotpCode:
        """The code of this moment.

        Raises as `write_back`, and NoSuchUserError when the user has no TOTP seed.
        """
        lease, user = await self._user_of(principal, lease_id, user_id)
        async with self._database.transaction() as session:
            sealed = await self._lock(session, principal, lease, user)
            if sealed.totp_seed is None:
                raise NoSuchUserError("This user has no TOTP seed.")
            await audit_queries.record_of_lease(session, principal, "get_totp", lease, {"user_id": user_id})
        code = current_code(totp_seed(self._key_ring, user_id, sealed.totp_seed))
        if code is None:
            raise NoSuchUserError("The TOTP seed of this user cannot be read: it must be set again.")
        return code

    async def write_back(
        self,
        principal: Principal,
        lease_id: UUID,
        user_id: UUID,
        *,
        password: str | None,
        secrets: Secrets,
    ) -> LeasedUser:
        """Stores the password and the secrets that are given.

        Returns the user with the credentials as stored. Secrets are merged by their names, and null removes
        one. With nothing to store it only reads, and the audit says so. Labels and lock of the returned user
        were read before the write.
        Raises NoSuchLeaseError, NotTheHolderError, NoSuchUserError when the lease has no such user, and
        LeaseLapsedError; then nothing was stored.
        """
        lease, user = await self._user_of(principal, lease_id, user_id)
        async with self._database.transaction() as session:
            sealed = await self._lock(session, principal, lease, user)
            if password:
                sealed = replace(sealed, password=seal_password(self._key_ring, user_id, password))
            if secrets:
                merged = merge_secrets(self._key_ring, user_id, sealed.secrets, secrets)
                sealed = replace(sealed, secrets=merged)
            written = [name for name, given in (("password", password), ("secrets", secrets)) if given]
            if written:
                await lease_queries.write_back(
                    session, user_id, password=sealed.password, secrets=sealed.secrets
                )
            details = {"user_id": user_id, "written": written}
            await audit_queries.record_of_lease(session, principal, "write_back", lease, details)
        return readable(replace(user, sealed=sealed), self._key_ring)

    async def _user_of(self, principal: Principal, lease_id: UUID, user_id: UUID) -> tuple[Lease, LeasedUser]:
        lease = await self._leases.held_before(principal, lease_id)
        for user in lease.users:
            if user.id == user_id:
                return lease, user
        raise NoSuchUserError("The lease has no such user.")

    async def _lock(
        self, session: AsyncSession, principal: Principal, lease: Lease, user: LeasedUser
    ) -> SealedCredentials:
        """Reads the credentials. Locks the user, so that no other request gets it in this transaction."""
        sealed = await lease_queries.lock_user_of_lease(session, lease.id, user.id, principal=principal.name)
        if sealed is None:
            raise LeaseLapsedError
        return sealed
