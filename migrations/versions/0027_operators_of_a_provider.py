"""Operators that sign in at a provider: who they are there.

Revision ID: 0027
Revises: 0026

The index may be made again, because it is made outside of a transaction.
"""

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

INDEX = "uq_operators_person"


def upgrade() -> None:
    op.execute(
        "ALTER TABLE operators ADD COLUMN IF NOT EXISTS issuer text, ADD COLUMN IF NOT EXISTS subject text"
    )
    with op.get_context().autocommit_block():
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {INDEX}")
        op.execute(
            f"CREATE UNIQUE INDEX CONCURRENTLY {INDEX} ON operators (issuer, subject) WHERE issuer IS NOT NULL"
        )


def downgrade() -> None:
    op.drop_index(INDEX, "operators")
    op.drop_column("operators", "subject")
    op.drop_column("operators", "issuer")
