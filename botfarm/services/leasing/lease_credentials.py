"""The credentials of a leased user, which its holder changes: the write-back, and the rotation of a password."""

from dataclasses import replace
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.crypto.key_ring import KeyRing
from botfarm.db.access import audit_queries
from botfarm.db.leasing import lease_queries
from botfarm.db.leasing.lease_queries import LockedUserOfLease
from botfarm.db.postgres.engine import Database
from botfarm.domain.access import Principal
from botfarm.domain.leases import Lease, LeasedUser
from botfarm.errors import LeaseLapsedError, NoRotationError, NoSuchUserError, RotationPendingError
from botfarm.services.leasing.leases import Leases
from botfarm.services.stock.sealing import (
    Secrets,
    generate_password,
    merge_secrets,
    open_pending_password,
    readable,
    seal_password,
    seal_pending_password,
)


class LeaseCredentials:
    def __init__(self, database: Database, key_ring: KeyRing, leases: Leases) -> None:
        self._database = database
        self._key_ring = key_ring
        self._leases = leases

    async def write_back(
        self,
        principal: Principal,
        lease_id: UUID,
        user_id: UUID,
        *,
        password: str | None,
        secrets: Secrets,
        session_expires_at: datetime | None = None,
    ) -> LeasedUser:
        """Stores the password, the secrets and the end of the session that are given.

        Returns the user with the credentials as stored. Secrets are merged by their names, and null removes
        one. With nothing to store it only reads, and the audit says so. Labels and lock of the returned user
        were read before the write.
        Raises NoSuchLeaseError, NotTheHolderError, NoSuchUserError when the lease has no such user, and
        LeaseLapsedError; then nothing was stored.
        """
        lease, user = await self._user_of(principal, lease_id, user_id)
        async with self._database.transaction() as session:
            sealed = (await self._lock(session, principal, lease, user)).sealed
            if password:
                new_password = seal_password(self._key_ring, user_id, password)
                sealed = replace(sealed, password=new_password, pending_password=None)
            if secrets:
                merged = merge_secrets(self._key_ring, user_id, sealed.secrets, secrets)
                sealed = replace(sealed, secrets=merged)
            given = {"password": password, "secrets": secrets, "session_expires_at": session_expires_at}
            written = [name for name, value in given.items() if value]
            if written:
                await lease_queries.write_back(
                    session,
                    user_id,
                    password=sealed.password if password else None,
                    secrets=sealed.secrets,
                    session_expires_at=session_expires_at,
                )
            details = {"user_id": user_id, "written": written}
            await audit_queries.record_of_lease(session, principal, "write_back", lease, details)
        return readable(replace(user, sealed=sealed), self._key_ring)

    async def start_rotation(
        self, principal: Principal, lease_id: UUID, user_id: UUID, *, password: str | None
    ) -> str:
        """Keeps a new password as pending and returns it; by default one that the farm makes.

        No test gets the user until the rotation is confirmed. Once more it returns the password that is pending, so
        that a lost answer loses nothing.
        Raises as `write_back`, and RotationPendingError when another password is pending.
        """
        lease, user = await self._user_of(principal, lease_id, user_id)
        async with self._database.transaction() as session:
            sealed = (await self._lock(session, principal, lease, user)).sealed
            if sealed.pending_password is not None:
                pending = open_pending_password(self._key_ring, user_id, sealed.pending_password)
                if password not in (None, pending):
                    raise RotationPendingError
                return pending
            pending = password or generate_password()
            sealed_pending = seal_pending_password(self._key_ring, user_id, pending)
            await lease_queries.start_rotation(session, user_id, pending_password=sealed_pending)
            await audit_queries.record_of_lease(
                session, principal, "start_rotation", lease, {"user_id": user_id}
            )
        return pending

    async def confirm_rotation(self, principal: Principal, lease_id: UUID, user_id: UUID) -> LeasedUser:
        """Makes the pending password the user's. Once more is the same as once.

        Raises as `write_back`, and NoRotationError when no password is pending.
        """
        lease, user = await self._user_of(principal, lease_id, user_id)
        async with self._database.transaction() as session:
            locked = await self._lock(session, principal, lease, user)
            sealed = locked.sealed
            if sealed.pending_password is not None:
                new = open_pending_password(self._key_ring, user_id, sealed.pending_password)
                sealed = replace(
                    sealed, password=seal_password(self._key_ring, user_id, new), pending_password=None
                )
                await lease_queries.confirm_rotation(session, user_id, password=sealed.password)
                details = {"user_id": user_id, "written": ["password"]}
                await audit_queries.record_of_lease(session, principal, "confirm_rotation", lease, details)
            elif not locked.was_rotated:
                raise NoRotationError
        return readable(replace(user, sealed=sealed), self._key_ring)

    async def _user_of(self, principal: Principal, lease_id: UUID, user_id: UUID) -> tuple[Lease, LeasedUser]:
        lease = await self._leases.held_before(principal, lease_id)
        for user in lease.users:
            if user.id == user_id:
                return lease, user
        raise NoSuchUserError("The lease has no such user.")

    async def _lock(
        self, session: AsyncSession, principal: Principal, lease: Lease, user: LeasedUser
    ) -> LockedUserOfLease:
        """Reads the credentials and locks the user: no other request can get it until the transaction ends."""
        locked = await lease_queries.lock_user_of_lease(session, lease.id, user.id, principal=principal.name)
        if locked is None:
            raise LeaseLapsedError
        return locked
