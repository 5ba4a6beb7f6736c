"""Projects and their users."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Float, ForeignKey, Index, Text, func, text
from sqlalchemy.orm import Mapped, mapped_column

from botfarm.db.shared.tables.base import CLOCK, Base
from botfarm.domain.logins import Logins
from botfarm.domain.projects import Cleaning


class ProjectRow(Base):
    __tablename__ = "projects"
    __table_args__ = (
        CheckConstraint("name ~ '^[A-Za-z0-9._-]{1,64}$'", name="name"),
        CheckConstraint(
            "default_ttl >= 1 AND max_ttl >= 1 AND max_hold >= 1 AND lock_delay >= 0 AND cooldown >= 0",
            name="policy",
        ),
        CheckConstraint(
            "cardinality(envs) BETWEEN 1 AND 32 AND cardinality(domains) BETWEEN 1 AND 32", name="names"
        ),
        CheckConstraint("cleaning IN ('off', 'on_dirty', 'required')", name="cleaning"),
        CheckConstraint("logins IN ('email', 'any')", name="logins"),
        CheckConstraint(
            "quarantine_after >= 0 AND quarantine_share >= 0 AND quarantine_share <= 1 AND clean_attempts >= 1 "
            "AND login_gap >= 0 AND check_every >= 0 AND rotate_every >= 0 AND session_refresh >= 0",
            name="health_policy",
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(server_default=CLOCK)
    name: Mapped[str] = mapped_column(unique=True)
    default_ttl: Mapped[int]
    max_ttl: Mapped[int]
    max_hold: Mapped[int]
    lock_delay: Mapped[int]
    cooldown: Mapped[int]
    login_gap: Mapped[int] = mapped_column(server_default="0")
    quarantine_after: Mapped[int] = mapped_column(server_default="3")
    quarantine_share: Mapped[float] = mapped_column(Float(), server_default="0.3")
    count_expired: Mapped[bool] = mapped_column(server_default="false")
    cleaning: Mapped[Cleaning] = mapped_column(Text(), server_default="off")
    clean_attempts: Mapped[int] = mapped_column(server_default="3")
    check_every: Mapped[int] = mapped_column(server_default="0")
    rotate_every: Mapped[int] = mapped_column(server_default="0")
    rotate_on_release: Mapped[bool] = mapped_column(server_default="false")
    session_refresh: Mapped[int] = mapped_column(server_default="0")
    logins: Mapped[Logins] = mapped_column(Text(), server_default="email")
    envs: Mapped[list[str]] = mapped_column(server_default="{prod,preprod,stage}")
    domains: Mapped[list[str]] = mapped_column(server_default="{regular,canary}")
    managed_by: Mapped[str | None]
    """The file that made it; null for what people and programs made by other ways."""


class UserRow(Base):
    """No index may contain a column that acquire or release changes: only then their updates are HOT."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("jsonb_typeof(labels) = 'object'", name="labels"),
        CheckConstraint("status IN ('active', 'dirty', 'quarantined', 'retired')", name="status"),
        CheckConstraint("(status = 'active') = (status_since IS NULL)", name="status_since"),
        CheckConstraint("health IN ('unknown', 'ok', 'failing', 'unreachable')", name="health"),
        CheckConstraint("purpose IN ('test', 'chore', 'hold')", name="purpose"),
        CheckConstraint("pending_password IS NULL OR status <> 'active'", name="pending_password"),
        CheckConstraint("(locktime IS NULL) = (expires_at IS NULL)", name="lock"),
        Index("uq_users_project_id_env_login_key", "project_id", "env", "login_key", unique=True),
        # The previous version finds logins by this index; it is dropped one release later.
        Index("uq_users_project_id_env_login", "project_id", "env", func.lower(text("login")), unique=True),
        Index("ix_users_pool", "project_id", "env", "domain", "id"),
        # No grant and no release of an active user changes its status, so their updates stay HOT.
        Index(
            "ix_users_status",
            "project_id",
            "env",
            "domain",
            "status",
            "id",
            postgresql_where=text("status <> 'active'"),
        ),
        Index(
            "ix_users_dirty",
            "project_id",
            "env",
            "domain",
            "id",
            postgresql_where=text(
                "status = 'dirty' OR (status = 'quarantined' AND status_until IS NOT NULL)"
            ),
        ),
        # Nor does a usual release change its health: only a check by a keeper or a quarantine does.
        Index(
            "ix_users_health",
            "project_id",
            "env",
            "domain",
            "health",
            "id",
            postgresql_where=text("health IN ('failing', 'unreachable')"),
        ),
        Index("ix_users_managed_by", "managed_by", "id", postgresql_where=text("managed_by IS NOT NULL")),
        {
            "postgresql_with": {
                "fillfactor": 50,
                "autovacuum_vacuum_scale_factor": 0.01,
                "autovacuum_vacuum_threshold": 1000,
                "autovacuum_vacuum_cost_delay": 0,
            }
        },
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(server_default=CLOCK)
    login: Mapped[str]
    login_key: Mapped[str | None] = mapped_column(Text(collation="C"))
    """The login's normal form. Null for moments after the previous version has written the login."""
    password: Mapped[str]
    secrets: Mapped[str | None]
    totp_seed: Mapped[str | None]
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id"))
    env: Mapped[str]
    domain: Mapped[str]
    locktime: Mapped[datetime | None]
    lease_id: Mapped[UUID | None]
    expires_at: Mapped[datetime | None]
    fence: Mapped[int | None] = mapped_column(BigInteger)
    available_at: Mapped[datetime] = mapped_column(server_default=CLOCK)
    labels: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    status: Mapped[str] = mapped_column(server_default="active")
    status_reason: Mapped[str | None]
    status_since: Mapped[datetime | None]
    status_by: Mapped[str | None]
    status_until: Mapped[datetime | None]
    quarantined_by_policy_at: Mapped[datetime | None]
    """Kept after a restore, for the share of a pool that may be quarantined within an hour."""
    health: Mapped[str] = mapped_column(server_default="unknown")
    health_reason: Mapped[str | None]
    checked_at: Mapped[datetime | None]
    healthy_at: Mapped[datetime | None]
    failures: Mapped[int] = mapped_column(server_default="0")
    failed_chores: Mapped[int] = mapped_column(server_default="0")
    """Chores in a row that failed."""
    pending_password: Mapped[str | None]
    must_rotate: Mapped[bool] = mapped_column(server_default="false")
    """True after a test of a project whose passwords change after each."""
    rotated_at: Mapped[datetime | None]
    session_expires_at: Mapped[datetime | None]
    code_used_until: Mapped[datetime | None]
    """The end of the last one-time code that was given."""
    purpose: Mapped[str | None]
    """Of the last lease; null for a test that the previous version granted."""
    managed_by: Mapped[str | None]
