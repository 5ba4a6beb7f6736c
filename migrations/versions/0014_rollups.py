"""Rollups: how each pool was used, hour by hour. The worker fills them, also from the leases that are there.

Revision ID: 0014
Revises: 0013
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


INDEX = "ix_lease_users_said"


def upgrade() -> None:
    # Outside of a transaction, so it may be done again.
    with op.get_context().autocommit_block():
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {INDEX}")
        op.execute(f"CREATE INDEX CONCURRENTLY {INDEX} ON lease_users (fence) WHERE outcome IS NOT NULL")
    op.create_table(
        "rollups",
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("env", sa.Text(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("granted", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("exhausted", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("timeout", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("gone", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("quota", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("waits", postgresql.ARRAY(sa.BigInteger()), nullable=False, server_default=sa.text("'{}'")),
        sa.Column("longest_wait", sa.Float(), nullable=False, server_default="0"),
        sa.Column("busy_seconds", sa.Float(), nullable=False, server_default="0"),
        sa.Column("in_service_seconds", sa.Float(), nullable=False, server_default="0"),
        sa.Column("peak_demand", sa.Integer(), nullable=False, server_default="0"),
        sa.Column(
            "ends", postgresql.JSONB(astext_type=sa.Text()), nullable=False, server_default=sa.text("'{}'")
        ),
        sa.PrimaryKeyConstraint("hour", "project_id", "env", "domain", name=op.f("pk_rollups")),
        postgresql_with={"fillfactor": 70, "autovacuum_vacuum_scale_factor": 0.02},
    )
    op.create_table(
        "rollup_hours",
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("first_fence", sa.BigInteger(), nullable=True),
        sa.Column("carried", postgresql.ARRAY(sa.BigInteger()), nullable=True),
        sa.Column("observed_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("observed_seconds", sa.Float(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("hour", name=op.f("pk_rollup_hours")),
    )


def downgrade() -> None:
    op.drop_index(INDEX, "lease_users")
    op.drop_table("rollup_hours")
    op.drop_table("rollups")
