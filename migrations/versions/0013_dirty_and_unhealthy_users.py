"""Indexes of the users that are or may be dirty, and of those that do not work.

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
    "ix_users_dirty": "(project_id, env, domain, id) "
    "WHERE status = 'dirty' OR (status = 'quarantined' AND status_until IS NOT NULL)",
    "ix_users_health": "(project_id, env, domain, health, id) WHERE health IN ('failing', 'unreachable')",
}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for name, rows in INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON users {rows}")


def downgrade() -> None:
    for name in INDEXES:
        op.drop_index(name, "users")
