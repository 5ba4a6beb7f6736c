"""The envs and domains of a project are its own.

Revision ID: 0015
Revises: 0014
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

DEFAULTS = {"envs": "{prod,preprod,stage}", "domains": "{regular,canary}"}


def upgrade() -> None:
    for name, default in DEFAULTS.items():
        op.add_column(
            "projects",
            sa.Column(name, postgresql.ARRAY(sa.Text()), nullable=False, server_default=default),
        )
    op.create_check_constraint(
        op.f("ck_projects_names"),
        "projects",
        "cardinality(envs) BETWEEN 1 AND 32 AND cardinality(domains) BETWEEN 1 AND 32",
    )


def downgrade() -> None:
    for name in DEFAULTS:
        op.drop_column("projects", name)
