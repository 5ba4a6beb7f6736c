"""Indexes of the users that are or may be dirty, of those that do not work, and of what is said of single users.

Revision ID: 0013
Revises: 0012

Every step may be done again, because an index is made outside of a transaction.
"""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

INDEXES = {
    "ix_users_dirty": "users (project_id, env, domain, id) "
    "WHERE status = 'dirty' OR (status = 'quarantined' AND status_until IS NOT NULL)",
    "ix_users_health": "users (project_id, env, domain, health, id) WHERE health IN ('failing', 'unreachable')",
    "ix_lease_users_said": "lease_users (fence) WHERE outcome IS NOT NULL",
}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for name, rows in INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {rows}")


def downgrade() -> None:
    for name in INDEXES:
        op.drop_index(name)
