"""Rows for the users of the leases that are there, an index of the users that are not active, and valid CHECKs.

Revision ID: 0010
Revises: 0009

Whatever is done here may be done again: the revision is not one transaction, and after a failure it is made from its
start.
"""

from alembic import op

from botfarm.db.leasing.lease_user_queries import FILL_ALL, fill_lease_users

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

INDEX = "ix_users_status"


def upgrade() -> None:
    migration = op.get_context()
    with migration.autocommit_block():
        if migration.as_sql:
            op.execute(FILL_ALL)
        else:
            fill_lease_users(op.get_bind())
    with migration.autocommit_block():
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {INDEX}")
        op.execute(
            f"CREATE INDEX CONCURRENTLY {INDEX} ON users (project_id, env, domain, status, id) WHERE status <> 'active'"
        )
        for name in ("status", "status_since", "health", "purpose", "pending_password"):
            op.execute(f"ALTER TABLE users VALIDATE CONSTRAINT ck_users_{name}")


def downgrade() -> None:
    op.drop_index(INDEX, "users")
