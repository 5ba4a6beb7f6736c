"""Keepers wait in a queue of their own; requests that got no user are counted.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "refused_requests",
        sa.Column("minute", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("env", sa.Text(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
        sa.Column("labels", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("wait_seconds", sa.Float(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("waited", sa.Float(), nullable=False),
        sa.Column("longest_wait", sa.Float(), nullable=False),
        sa.CheckConstraint("requests >= 1", name=op.f("ck_refused_requests_requests")),
        sa.PrimaryKeyConstraint(
            "minute",
            "project_id",
            "env",
            "domain",
            "purpose",
            "result",
            "labels",
            "count",
            "priority",
            "wait_seconds",
            name=op.f("pk_refused_requests"),
        ),
    )
    op.add_column("tickets", sa.Column("purpose", sa.Text(), nullable=False, server_default="test"))
    op.create_check_constraint(op.f("ck_tickets_purpose"), "tickets", "purpose IN ('test', 'chore')")


def downgrade() -> None:
    op.drop_column("tickets", "purpose")
    op.drop_table("refused_requests")
