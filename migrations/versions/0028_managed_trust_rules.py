"""Which file made a trust rule.

Revision ID: 0028
Revises: 0027
"""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("trust_rules", sa.Column("managed_by", sa.Text()))


def downgrade() -> None:
    op.drop_column("trust_rules", "managed_by")
