"""Tickets wait for one user, and for labels with alternatives.

Revision ID: 0024
Revises: 0023
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tickets", sa.Column("choices", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column("tickets", sa.Column("user_id", sa.Uuid(), nullable=True))


def downgrade() -> None:
    op.drop_column("tickets", "user_id")
    op.drop_column("tickets", "choices")
