"""Who may use the farm, and who did what."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from botfarm.db.shared.tables.base import CLOCK, ROLES, Base


class TokenRow(Base):
    """Null projects or envs mean all of them. A revoked token stays, because leases and the audit name it."""

    __tablename__ = "tokens"
    __table_args__ = (
        CheckConstraint(ROLES, name="role"),
        CheckConstraint("max_leases >= 1", name="max_leases"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    secret_hash: Mapped[bytes]
    role: Mapped[str]
    projects: Mapped[list[UUID] | None]
    envs: Mapped[list[str] | None]
    max_leases: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(server_default=CLOCK)
    created_by: Mapped[str]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    managed_by: Mapped[str | None]


class TrustRuleRow(Base):
    """Null projects or envs mean all of them. A deleted rule stays, because leases and the audit name it."""

    __tablename__ = "trust_rules"
    __table_args__ = (
        CheckConstraint("role IN ('runner', 'keeper')", name="role"),
        CheckConstraint("max_leases >= 1", name="max_leases"),
        CheckConstraint("max_leases_of_all >= 1", name="max_leases_of_all"),
        CheckConstraint("token_ttl BETWEEN 60 AND 43200", name="token_ttl"),
        Index("uq_trust_rules_name", "name", unique=True, postgresql_where=text("deleted_at IS NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    issuer: Mapped[str]
    claims: Mapped[dict[str, Any]]
    role: Mapped[str]
    projects: Mapped[list[UUID] | None]
    envs: Mapped[list[str] | None]
    max_leases: Mapped[int | None]
    max_leases_of_all: Mapped[int | None]
    token_ttl: Mapped[int]
    once: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(server_default=CLOCK)
    created_by: Mapped[str]
    deleted_at: Mapped[datetime | None]
    managed_by: Mapped[str | None]


class RunTokenRow(Base):
    """A token that a run of a CI got for its identity token. It may do what its rule says."""

    __tablename__ = "run_tokens"
    __table_args__ = (Index("ix_run_tokens_expires_at", "expires_at"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    secret_hash: Mapped[bytes]
    rule_id: Mapped[UUID] = mapped_column(ForeignKey("trust_rules.id"))
    run: Mapped[str]
    owner: Mapped[str]
    run_metadata: Mapped[dict[str, Any]] = mapped_column("metadata")
    created_at: Mapped[datetime] = mapped_column(server_default=CLOCK)
    expires_at: Mapped[datetime]


class SpentIdentityTokenRow(Base):
    """An identity token that was exchanged, as a digest, until it would be refused as expired."""

    __tablename__ = "spent_identity_tokens"
    __table_args__ = (Index("ix_spent_identity_tokens_expires_at", "expires_at"),)

    digest: Mapped[bytes] = mapped_column(primary_key=True)
    expires_at: Mapped[datetime]


class OperatorRow(Base):
    __tablename__ = "operators"
    __table_args__ = (
        CheckConstraint(ROLES, name="role"),
        Index("uq_operators_name", func.lower(text("name")), unique=True),
        Index(
            "uq_operators_person",
            "issuer",
            "subject",
            unique=True,
            postgresql_where=text("issuer IS NOT NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    password_hash: Mapped[str]
    issuer: Mapped[str | None]
    subject: Mapped[str | None]
    role: Mapped[str]
    projects: Mapped[list[UUID] | None]
    envs: Mapped[list[str] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=CLOCK)
    disabled_at: Mapped[datetime | None]


class SessionRow(Base):
    """An operator's session. It ends by its time, by logout, or with a new password of the operator."""

    __tablename__ = "sessions"
    __table_args__ = (Index("ix_sessions_operator_id", "operator_id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    operator_id: Mapped[UUID] = mapped_column(ForeignKey("operators.id"))
    created_at: Mapped[datetime] = mapped_column(server_default=CLOCK)
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class AuditRow(Base):
    """Append-only, by a trigger. Only retention may delete, and only entries older than a day."""

    __tablename__ = "audit"
    __table_args__ = (Index("ix_audit_target_id_id", "target_id", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=CLOCK)
    principal: Mapped[str]
    address: Mapped[str | None]
    request_id: Mapped[str | None]
    action: Mapped[str]
    target: Mapped[str]
    target_id: Mapped[str]
    project_id: Mapped[UUID | None]
    env: Mapped[str | None]
    details: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
