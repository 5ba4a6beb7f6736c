"""The policy of a project on the health of its users.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

DEFAULTS = {
    "quarantine_after": (sa.Integer(), "3"),
    "quarantine_share": (sa.Float(), "0.3"),
    "cleaning": (sa.Text(), "off"),
    "clean_attempts": (sa.Integer(), "3"),
    "count_expired": (sa.Boolean(), "false"),
    "login_gap": (sa.Integer(), "0"),
    "check_every": (sa.Integer(), "0"),
    "rotate_every": (sa.Integer(), "0"),
    "rotate_on_release": (sa.Boolean(), "false"),
    "session_refresh": (sa.Integer(), "0"),
}


def upgrade() -> None:
    for name, (kind, default) in DEFAULTS.items():
        op.add_column("projects", sa.Column(name, kind, nullable=False, server_default=default))
    op.create_check_constraint(
        op.f("ck_projects_cleaning"), "projects", "cleaning IN ('off', 'on_dirty', 'required')"
    )
    op.create_check_constraint(
        op.f("ck_projects_health_policy"),
        "projects",
        "quarantine_after >= 0 AND quarantine_share >= 0 AND quarantine_share <= 1 AND clean_attempts >= 1 "
        "AND login_gap >= 0 AND check_every >= 0 AND rotate_every >= 0 AND session_refresh >= 0",
    )


def downgrade() -> None:
    for name in DEFAULTS:
        op.drop_column("projects", name)
