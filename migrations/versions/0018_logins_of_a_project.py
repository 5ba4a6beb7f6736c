"""What a project asks of new logins.

Revision ID: 0018
Revises: 0017
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("projects", sa.Column("logins", sa.Text(), nullable=False, server_default="email"))
    op.create_check_constraint(op.f("ck_projects_logins"), "projects", "logins IN ('email', 'any')")


def downgrade() -> None:
    op.drop_column("projects", "logins")
