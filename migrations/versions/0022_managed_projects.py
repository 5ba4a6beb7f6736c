"""Which file made a project.

Revision ID: 0022
Revises: 0020
"""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("projects", sa.Column("managed_by", sa.Text()))


def downgrade() -> None:
    op.drop_column("projects", "managed_by")
