"""The audit's own clock and numbers: an entry cannot be inserted with a time or an id of one's choice.

Revision ID: 0005
Revises: 0004
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The numbers are taken as the owner: before, a role needed no right on their sequence to write entries.
    # Both functions look names up in pg_catalog alone, because a schema of the caller's could have a
    # clock_timestamp() of its own.
    op.execute("""
        CREATE FUNCTION audit_stamps() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
        SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            NEW.at := clock_timestamp();
            NEW.id := nextval(pg_get_serial_sequence(TG_RELID::regclass::text, 'id'));
            RETURN NEW;
        END $$""")
    op.execute("ALTER FUNCTION audit_is_append_only() SET search_path = pg_catalog, pg_temp")
    op.execute("""
        CREATE TRIGGER stamped BEFORE INSERT ON audit
        FOR EACH ROW EXECUTE FUNCTION audit_stamps()""")


def downgrade() -> None:
    op.execute("DROP TRIGGER stamped ON audit")
    op.execute("ALTER FUNCTION audit_is_append_only() RESET search_path")
    op.execute("DROP FUNCTION audit_stamps")
