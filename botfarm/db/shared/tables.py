"""The tables.

Text with CHECK rather than ENUM types, so that a new value is a small migration and no type change.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Float,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    MetaData,
    Sequence,
    SmallInteger,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from botfarm.domain.logins import Logins
from botfarm.domain.projects import Cleaning

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
fence_sequence = Sequence("fence", metadata=metadata)

_ROLES = "role IN ('viewer', 'runner', 'keeper', 'manager', 'admin')"
_CLOCK = func.clock_timestamp()


class Base(DeclarativeBase):
    metadata = metadata
    type_annotation_map = {  # noqa: RUF012  SQLAlchemy reads it from the class
        UUID: Uuid(),
        datetime: DateTime(timezone=True),
        str: Text(),
        dict[str, Any]: JSONB(),
        list[UUID]: ARRAY(Uuid()),
        list[str]: ARRAY(Text()),
        list[int]: ARRAY(BigInteger()),
        bytes: LargeBinary(),
    }


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
    created_at: Mapped[datetime] = mapped_column(server_default=_CLOCK)
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
    created_at: Mapped[datetime] = mapped_column(server_default=_CLOCK)
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
    available_at: Mapped[datetime] = mapped_column(server_default=_CLOCK)
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


class RefusedRequestsRow(Base):
    """Requests of one kind that got no user within one minute."""

    __tablename__ = "refused_requests"
    __table_args__ = (CheckConstraint("requests >= 1", name="requests"),)

    minute: Mapped[datetime] = mapped_column(primary_key=True)
    project_id: Mapped[UUID] = mapped_column(primary_key=True)
    env: Mapped[str] = mapped_column(primary_key=True)
    domain: Mapped[str] = mapped_column(primary_key=True)
    purpose: Mapped[str] = mapped_column(primary_key=True)
    result: Mapped[str] = mapped_column(primary_key=True)
    labels: Mapped[dict[str, Any]] = mapped_column(primary_key=True)
    count: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    priority: Mapped[int] = mapped_column(SmallInteger(), primary_key=True, autoincrement=False)
    wait_seconds: Mapped[float] = mapped_column(Float(), primary_key=True)
    requests: Mapped[int] = mapped_column(BigInteger)
    waited: Mapped[float] = mapped_column(Float())
    """Seconds, of all together."""
    longest_wait: Mapped[float] = mapped_column(Float())


class RollupRow(Base):
    """How the tests of one pool used it within one hour. Kept longer than leases and refused requests."""

    __tablename__ = "rollups"
    __table_args__ = ({"postgresql_with": {"fillfactor": 70, "autovacuum_vacuum_scale_factor": 0.02}},)

    hour: Mapped[datetime] = mapped_column(primary_key=True)
    project_id: Mapped[UUID] = mapped_column(primary_key=True)
    env: Mapped[str] = mapped_column(primary_key=True)
    domain: Mapped[str] = mapped_column(primary_key=True)
    granted: Mapped[int] = mapped_column(BigInteger, server_default="0")
    exhausted: Mapped[int] = mapped_column(BigInteger, server_default="0")
    timeout: Mapped[int] = mapped_column(BigInteger, server_default="0")
    gone: Mapped[int] = mapped_column(BigInteger, server_default="0")
    quota: Mapped[int] = mapped_column(BigInteger, server_default="0")
    waits: Mapped[list[int]] = mapped_column(server_default=text("'{}'"))
    """Granted requests by the bucket of their wait; see `WAIT_BOUNDS`."""
    longest_wait: Mapped[float] = mapped_column(Float(), server_default="0")
    busy_seconds: Mapped[float] = mapped_column(Float(), server_default="0")
    in_service_seconds: Mapped[float] = mapped_column(Float(), server_default="0")
    """Counted by the worker as time passes. All other columns follow from leases, refused requests and tickets."""
    peak_demand: Mapped[int] = mapped_column(server_default="0")
    ends: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """Users by the end of their lease: `{"ok": 40, "broken:captcha": 2, "expired": 1}`."""


class RollupHourRow(Base):
    """The state in which an hour began, from which its rollups are computed again.

    The latest hour with `carried` is the first that is not closed.
    """

    __tablename__ = "rollup_hours"

    hour: Mapped[datetime] = mapped_column(primary_key=True)
    first_fence: Mapped[int | None] = mapped_column(BigInteger)
    """Leases with lower fences began before the hour."""
    carried: Mapped[list[int] | None]
    """Fences of those among them that were live when it began."""
    observed_until: Mapped[datetime | None]
    """When users in service were last counted."""
    observed_seconds: Mapped[float] = mapped_column(Float(), server_default="0")
    """For how much of the hour the counts hold."""


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


class TokenRow(Base):
    """Null projects or envs mean all of them. A revoked token stays, because leases and the audit name it."""

    __tablename__ = "tokens"
    __table_args__ = (
        CheckConstraint(_ROLES, name="role"),
        CheckConstraint("max_leases >= 1", name="max_leases"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    secret_hash: Mapped[bytes]
    role: Mapped[str]
    projects: Mapped[list[UUID] | None]
    envs: Mapped[list[str] | None]
    max_leases: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(server_default=_CLOCK)
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
    created_at: Mapped[datetime] = mapped_column(server_default=_CLOCK)
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
    created_at: Mapped[datetime] = mapped_column(server_default=_CLOCK)
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
        CheckConstraint(_ROLES, name="role"),
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
    created_at: Mapped[datetime] = mapped_column(server_default=_CLOCK)
    disabled_at: Mapped[datetime | None]


class SessionRow(Base):
    """An operator's session. It ends by its time, by logout, or with a new password of the operator."""

    __tablename__ = "sessions"
    __table_args__ = (Index("ix_sessions_operator_id", "operator_id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    operator_id: Mapped[UUID] = mapped_column(ForeignKey("operators.id"))
    created_at: Mapped[datetime] = mapped_column(server_default=_CLOCK)
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class AuditRow(Base):
    """Append-only, by a trigger. Only retention may delete, and only entries older than a day."""

    __tablename__ = "audit"
    __table_args__ = (Index("ix_audit_target_id_id", "target_id", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=_CLOCK)
    principal: Mapped[str]
    address: Mapped[str | None]
    request_id: Mapped[str | None]
    action: Mapped[str]
    target: Mapped[str]
    target_id: Mapped[str]
    project_id: Mapped[UUID | None]
    env: Mapped[str | None]
    details: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
