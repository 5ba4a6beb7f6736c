"""The queues, and the processes whose requests wait."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Identity, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from botfarm.db.shared.tables.base import Base


class ReplicaRow(Base):
    """A process with waiting requests. Tickets of a replica without a heartbeat (`seen_at`) do not count."""

    __tablename__ = "replicas"
    __table_args__ = ({"postgresql_with": {"fillfactor": 50, "autovacuum_vacuum_scale_factor": 0.1}},)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    seen_at: Mapped[datetime]


class TicketRow(Base):
    """A place in the queue of a pool. Without a replica the place is only kept, for a retry under its key."""

    __tablename__ = "tickets"
    __table_args__ = (
        CheckConstraint("jsonb_typeof(labels) = 'object'", name="labels"),
        CheckConstraint("count >= 1", name="count"),
        CheckConstraint("purpose IN ('test', 'chore')", name="purpose"),
        Index("ix_tickets_pool", "project_id", "env", "domain", "rank", "id"),
        Index(
            "uq_tickets_principal_idempotency_key",
            "principal",
            "idempotency_key",
            unique=True,
            postgresql_where=text("idempotency_key IS NOT NULL"),
        ),
        {
            "postgresql_with": {
                "fillfactor": 70,
                "autovacuum_vacuum_scale_factor": 0.01,
                "autovacuum_vacuum_threshold": 200,
                "autovacuum_vacuum_cost_delay": 0,
            }
        },
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    project_id: Mapped[UUID]
    env: Mapped[str]
    domain: Mapped[str]
    labels: Mapped[dict[str, Any]]
    choices: Mapped[dict[str, Any] | None]
    """Of the labels that are asked for: those with several values, or with null for none."""
    user_id: Mapped[UUID | None]
    """The one user that is asked for."""
    count: Mapped[int]
    priority: Mapped[int]
    rank: Mapped[datetime]
    arrived_at: Mapped[datetime]
    replica: Mapped[UUID | None]
    deadline: Mapped[datetime]
    principal: Mapped[str]
    owner: Mapped[str | None]
    idempotency_key: Mapped[str | None]
    fingerprint: Mapped[bytes | None]
    purpose: Mapped[str] = mapped_column(server_default="test")
