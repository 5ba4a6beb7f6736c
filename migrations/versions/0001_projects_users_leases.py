"""Projects, users and leases.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE SEQUENCE fence")
    op.create_table(
        "leases",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("env", sa.Text(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("user_ids", sa.ARRAY(sa.Uuid()), nullable=False),
        sa.Column(
            "metadata",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column("acquired_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ttl_seconds", sa.Integer(), nullable=False),
        sa.Column("hold_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_by", sa.Text(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=True),
        sa.CheckConstraint("ended_by IN ('released', 'expired', 'forced')", name=op.f("ck_leases_ended_by")),
        sa.CheckConstraint(
            "operation IN ('acquire_lock', 'acquire_lease')", name=op.f("ck_leases_operation")
        ),
        sa.CheckConstraint("outcome IN ('ok', 'dirty', 'broken')", name=op.f("ck_leases_outcome")),
        sa.CheckConstraint("(ended_at IS NULL) = (ended_by IS NULL)", name=op.f("ck_leases_ended")),
        sa.CheckConstraint("cardinality(user_ids) >= 1", name=op.f("ck_leases_user_ids")),
        sa.CheckConstraint("expires_at <= hold_until", name=op.f("ck_leases_hold")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_leases")),
        sa.UniqueConstraint("fence", name=op.f("uq_leases_fence")),
        postgresql_with={"fillfactor": 80, "autovacuum_vacuum_scale_factor": 0.02},
    )
    op.create_index(
        "ix_leases_open_expires_at",
        "leases",
        ["expires_at"],
        unique=False,
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_index(
        "uq_leases_principal_idempotency_key",
        "leases",
        ["principal", "idempotency_key"],
        unique=True,
        postgresql_where=sa.text("idempotency_key IS NOT NULL"),
    )
    op.create_table(
        "projects",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("default_ttl", sa.Integer(), nullable=False),
        sa.Column("max_ttl", sa.Integer(), nullable=False),
        sa.Column("max_hold", sa.Integer(), nullable=False),
        sa.Column("lock_delay", sa.Integer(), nullable=False),
        sa.Column("cooldown", sa.Integer(), nullable=False),
        sa.CheckConstraint("name ~ '^[A-Za-z0-9._-]{1,64}$'", name=op.f("ck_projects_name")),
        sa.CheckConstraint(
            "default_ttl >= 1 AND max_ttl >= 1 AND max_hold >= 1 AND lock_delay >= 0 AND cooldown >= 0",
            name=op.f("ck_projects_policy"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_projects")),
        sa.UniqueConstraint("name", name=op.f("uq_projects_name")),
    )
    op.create_table(
        "users",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("login", sa.Text(), nullable=False),
        sa.Column("password", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("env", sa.Text(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("locktime", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_id", sa.Uuid(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fence", sa.BigInteger(), nullable=True),
        sa.Column(
            "available_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column(
            "labels", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("status", sa.Text(), server_default="active", nullable=False),
        sa.Column("status_reason", sa.Text(), nullable=True),
        sa.Column("status_since", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(status = 'quarantined') = (status_since IS NOT NULL)", name=op.f("ck_users_status_since")
        ),
        sa.CheckConstraint("domain IN ('canary', 'regular')", name=op.f("ck_users_domain")),
        sa.CheckConstraint("env IN ('prod', 'preprod', 'stage')", name=op.f("ck_users_env")),
        sa.CheckConstraint("jsonb_typeof(labels) = 'object'", name=op.f("ck_users_labels")),
        sa.CheckConstraint("status IN ('active', 'quarantined')", name=op.f("ck_users_status")),
        sa.CheckConstraint("(locktime IS NULL) = (expires_at IS NULL)", name=op.f("ck_users_lock")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_users_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        postgresql_with={
            "fillfactor": 50,
            "autovacuum_vacuum_scale_factor": 0.01,
            "autovacuum_vacuum_threshold": 1000,
            "autovacuum_vacuum_cost_delay": 0,
        },
    )
    op.create_index("ix_users_pool", "users", ["project_id", "env", "domain", "id"], unique=False)
    op.create_index(
        "uq_users_project_id_env_login",
        "users",
        ["project_id", "env", sa.literal_column("lower(login)")],
        unique=True,
    )


def downgrade() -> None:
    op.drop_table("users")
    op.drop_table("projects")
    op.drop_table("leases")
    op.execute("DROP SEQUENCE fence")
