"""The users of each lease as rows of their own, and what was asked for.

Revision ID: 0008
Revises: 0007

One release later goes what serves the version before this one: the trigger and its function. Then `purpose` becomes
NOT NULL.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None
COLUMNS = (
    "purpose",
    "reason",
    "requested_at",
    "labels",
    "priority",
    "wait_seconds",
    "waited",
)


def upgrade() -> None:
    op.create_table(
        "lease_users",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("due", postgresql.ARRAY(sa.Text()), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.CheckConstraint("outcome IN ('ok', 'dirty', 'broken')", name=op.f("ck_lease_users_outcome")),
        sa.PrimaryKeyConstraint("user_id", "fence", name=op.f("pk_lease_users")),
        postgresql_with={"autovacuum_vacuum_scale_factor": 0.02},
    )
    op.add_column("leases", sa.Column("purpose", sa.Text()))
    op.add_column("leases", sa.Column("reason", sa.Text()))
    op.add_column("leases", sa.Column("requested_at", sa.DateTime(timezone=True)))
    op.add_column("leases", sa.Column("labels", postgresql.JSONB(astext_type=sa.Text())))
    op.add_column("leases", sa.Column("priority", sa.SmallInteger()))
    op.add_column("leases", sa.Column("wait_seconds", sa.Float()))
    op.add_column("leases", sa.Column("waited", sa.Float()))
    # The previous version writes neither a purpose nor rows of users. The condition is false for rows of this
    # version, so their inserts do not call the function.
    op.execute("""
        CREATE FUNCTION add_lease_users() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO lease_users (user_id, fence) SELECT unnest(NEW.user_ids), NEW.fence;
            RETURN NULL;
        END $$""")
    op.execute("""
        CREATE TRIGGER users_of_new AFTER INSERT ON leases
        FOR EACH ROW WHEN (NEW.purpose IS NULL) EXECUTE FUNCTION add_lease_users()""")


def downgrade() -> None:
    op.execute("DROP TRIGGER users_of_new ON leases")
    op.execute("DROP FUNCTION add_lease_users")
    for column in COLUMNS:
        op.drop_column("leases", column)
    op.drop_table("lease_users")
