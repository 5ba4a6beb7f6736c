"""Which file made a user, and an index that finds the users of a file.

Revision ID: 0020
Revises: 0018

Every step may be done again, because an index is made outside of a transaction.
"""

from alembic import op

revision = "0020"
down_revision = "0018"
branch_labels = None
depends_on = None

INDEX = "ix_users_managed_by"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE users ADD COLUMN IF NOT EXISTS managed_by text")
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {INDEX}")
        op.execute(
            f"CREATE INDEX CONCURRENTLY {INDEX} ON users (managed_by, id) WHERE managed_by IS NOT NULL"
        )


def downgrade() -> None:
    op.drop_index(INDEX, "users")
    op.drop_column("users", "managed_by")
