"""Leases, kept until they are pruned."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Float, Index, SmallInteger, func, text
from sqlalchemy.orm import Mapped, mapped_column

from botfarm.db.shared.tables.base import Base


class LeaseRow(Base):
    """One row for each lease, until it is pruned.

    No foreign keys, because history outlives users and projects.
    """

    __tablename__ = "leases"
    __table_args__ = (
        CheckConstraint("operation IN ('acquire_lock', 'acquire_lease')", name="operation"),
        CheckConstraint("ended_by IN ('released', 'expired', 'forced')", name="ended_by"),
        CheckConstraint("outcome IN ('ok', 'dirty', 'broken')", name="outcome"),
        CheckConstraint("(ended_at IS NULL) = (ended_by IS NULL)", name="ended"),
        CheckConstraint("cardinality(user_ids) >= 1", name="user_ids"),
        CheckConstraint("expires_at <= hold_until", name="hold"),
        Index(
            "uq_leases_principal_idempotency_key",
            "principal",
            "idempotency_key",
            unique=True,
            postgresql_where=text("idempotency_key IS NOT NULL"),
        ),
        Index("ix_leases_open_expires_at", "expires_at", postgresql_where=text("ended_at IS NULL")),
        Index("ix_leases_open_principal", "principal", postgresql_where=text("ended_at IS NULL")),
        {"postgresql_with": {"fillfactor": 80, "autovacuum_vacuum_scale_factor": 0.02}},
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.gen_random_uuid())
    fence: Mapped[int] = mapped_column(BigInteger, unique=True)
    principal: Mapped[str]
    operation: Mapped[str]
    owner: Mapped[str | None]
    project_id: Mapped[UUID]
    env: Mapped[str]
    domain: Mapped[str]
    user_ids: Mapped[list[UUID]]
    lease_metadata: Mapped[dict[str, Any]] = mapped_column("metadata", server_default=text("'{}'"))
    acquired_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    ttl_seconds: Mapped[int]
    hold_until: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    ended_by: Mapped[str | None]
    outcome: Mapped[str | None]
    note: Mapped[str | None]
    idempotency_key: Mapped[str | None]
    fingerprint: Mapped[bytes | None]
    address: Mapped[str | None]
    request_id: Mapped[str | None]
    purpose: Mapped[str | None]
    """Null for leases of the previous version, as the columns below: all of tests."""
    reason: Mapped[str | None]
    requested_at: Mapped[datetime | None]
    labels: Mapped[dict[str, Any] | None]
    choices: Mapped[dict[str, Any] | None]
    """As in a ticket."""
    priority: Mapped[int | None] = mapped_column(SmallInteger())
    wait_seconds: Mapped[float | None] = mapped_column(Float())
    waited: Mapped[float | None] = mapped_column(Float())


class LeaseUserRow(Base):
    """A user of a lease: the key lists a user's leases, the newest last, without a look at any others.

    What the release says of this user alone is here; what it says of all users is with the lease.
    """

    __tablename__ = "lease_users"
    __table_args__ = (
        CheckConstraint("outcome IN ('ok', 'dirty', 'broken')", name="outcome"),
        Index("ix_lease_users_said", "fence", postgresql_where=text("outcome IS NOT NULL")),
        {"postgresql_with": {"autovacuum_vacuum_scale_factor": 0.02}},
    )

    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    fence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    due: Mapped[list[str] | None]
    outcome: Mapped[str | None]
    reason: Mapped[str | None]
    note: Mapped[str | None]
