"""Tickets wait for one user, and for labels with alternatives.

Revision ID: 0021
Revises: 0018
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0021"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tickets", sa.Column("choices", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column("tickets", sa.Column("user_id", sa.Uuid(), nullable=True))


def downgrade() -> None:
    op.drop_column("tickets", "user_id")
    op.drop_column("tickets", "choices")
