"""Tickets: the line of those who wait for a user, and the replicas that they wait at.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "replicas",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("seen_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replicas")),
        postgresql_with={"fillfactor": 50, "autovacuum_vacuum_scale_factor": 0.1},
    )
    op.create_table(
        "tickets",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("env", sa.Text(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("labels", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("rank", MOMENT, nullable=False),
        sa.Column("arrived_at", MOMENT, nullable=False),
        sa.Column("replica", sa.Uuid(), nullable=True),
        sa.Column("deadline", MOMENT, nullable=False),
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=True),
        sa.CheckConstraint("env IN ('prod', 'preprod', 'stage')", name=op.f("ck_tickets_env")),
        sa.CheckConstraint("domain IN ('canary', 'regular')", name=op.f("ck_tickets_domain")),
        sa.CheckConstraint("jsonb_typeof(labels) = 'object'", name=op.f("ck_tickets_labels")),
        sa.CheckConstraint("count >= 1", name=op.f("ck_tickets_count")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tickets")),
        postgresql_with={
            "fillfactor": 70,
            "autovacuum_vacuum_scale_factor": 0.01,
            "autovacuum_vacuum_threshold": 200,
            "autovacuum_vacuum_cost_delay": 0,
        },
    )
    op.create_index("ix_tickets_pool", "tickets", ["project_id", "env", "domain", "rank", "id"])
    op.create_index(
        "uq_tickets_principal_idempotency_key",
        "tickets",
        ["principal", "idempotency_key"],
        unique=True,
        postgresql_where=sa.text("idempotency_key IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_table("tickets")
    op.drop_table("replicas")
