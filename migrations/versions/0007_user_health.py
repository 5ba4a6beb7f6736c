"""Whether a user may be leased (status), whether it works (health), and what keepers need to know.

Revision ID: 0007
Revises: 0006

The previous version reads the new columns nowhere. It leases no user whose status is not `active`.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
BEFORE = {
    "status": "status IN ('active', 'quarantined')",
    "status_since": "(status = 'quarantined') = (status_since IS NOT NULL)",
}
AFTER = {
    "status": "status IN ('active', 'dirty', 'quarantined', 'retired')",
    "status_since": "(status = 'active') = (status_since IS NULL)",
    "health": "health IN ('unknown', 'ok', 'failing', 'unreachable')",
    "purpose": "purpose IN ('test', 'chore', 'hold')",
    "pending_password": "pending_password IS NULL OR status <> 'active'",
}
COLUMNS = (
    "status_by",
    "status_until",
    "quarantined_by_policy_at",
    "health",
    "health_reason",
    "checked_at",
    "healthy_at",
    "failures",
    "failed_chores",
    "pending_password",
    "must_rotate",
    "rotated_at",
    "session_expires_at",
    "code_used_until",
    "purpose",
)


def upgrade() -> None:
    op.add_column("users", sa.Column("status_by", sa.Text()))
    op.add_column("users", sa.Column("status_until", MOMENT))
    op.add_column("users", sa.Column("quarantined_by_policy_at", MOMENT))
    op.add_column("users", sa.Column("health", sa.Text(), nullable=False, server_default="unknown"))
    op.add_column("users", sa.Column("health_reason", sa.Text()))
    op.add_column("users", sa.Column("checked_at", MOMENT))
    op.add_column("users", sa.Column("healthy_at", MOMENT))
    op.add_column("users", sa.Column("failures", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("users", sa.Column("failed_chores", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("users", sa.Column("pending_password", sa.Text()))
    op.add_column("users", sa.Column("must_rotate", sa.Boolean(), nullable=False, server_default="false"))
    op.add_column("users", sa.Column("rotated_at", MOMENT))
    op.add_column("users", sa.Column("session_expires_at", MOMENT))
    op.add_column("users", sa.Column("code_used_until", MOMENT))
    op.add_column("users", sa.Column("purpose", sa.Text()))
    for name in BEFORE:
        op.drop_constraint(op.f(f"ck_users_{name}"), "users", type_="check")
    for name, condition in AFTER.items():  # validated by 0010
        op.execute(f"ALTER TABLE users ADD CONSTRAINT ck_users_{name} CHECK ({condition}) NOT VALID")


def downgrade() -> None:
    op.execute("UPDATE users SET status = 'quarantined' WHERE status IN ('dirty', 'retired')")
    for name in AFTER:
        op.drop_constraint(op.f(f"ck_users_{name}"), "users", type_="check")
    for name, condition in BEFORE.items():
        op.create_check_constraint(op.f(f"ck_users_{name}"), "users", condition)
    for column in COLUMNS:
        op.drop_column("users", column)
