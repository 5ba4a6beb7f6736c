"""The normal form of each login, unique within project and env.

Revision ID: 0004
Revises: 0003

Every step may be done again, because the revision is not one transaction and starts anew after a failure.

One release later the parts that serve the previous version go: both triggers, their function and the index
uq_users_project_id_env_login. Then login_key becomes NOT NULL.
"""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from alembic import op

from botfarm.db.stock.login_key_queries import (
    Account,
    Spelled,
    accounts_by_key,
    accounts_of_several,
    describe,
    fill_login_keys,
)
from botfarm.errors import OperatorError

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

INDEX = "uq_users_project_id_env_login_key"


def upgrade() -> None:
    migration = op.get_context()
    if not migration.as_sql:
        _refuse(accounts_of_several(op.get_bind()))
    op.add_column("users", sa.Column("login_key", sa.Text(collation="C"), nullable=True), if_not_exists=True)
    _fill_for_the_version_before()
    with migration.autocommit_block():
        if not migration.as_sql:
            fill_login_keys(op.get_bind())
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {INDEX}")
        try:
            op.execute(f"CREATE UNIQUE INDEX CONCURRENTLY {INDEX} ON users (project_id, env, login_key)")
        except sa.exc.IntegrityError:  # two users have become one account since the first look
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {INDEX}")
            _refuse(accounts_by_key(op.get_bind()))
            raise


def _refuse(accounts: Mapping[Account, Sequence[Spelled]]) -> None:
    """Raises OperatorError if there are any."""
    if accounts:
        raise OperatorError(
            f"several users are one account, which this version does not allow ({len(accounts)} found): "
            f"{describe(op.get_bind(), accounts)}. "
            "Keep one user of each and delete the others, or give them other logins "
            "(`botfarm users delete ID`, `botfarm users update ID --login LOGIN`), "
            "while the version before this one runs; then migrate again. The farm works on as before"
        )


def _fill_for_the_version_before() -> None:
    """Fills in the normal form of an ASCII login at once. The worker fills in the others later.

    There is no BEFORE UPDATE trigger, because with one PostgreSQL first locks each user that a lease updates.
    The AFTER trigger costs leases nothing, because the foreign key has one already.
    """
    op.execute("""
        CREATE OR REPLACE FUNCTION fill_login_key() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            key text := CASE WHEN octet_length(NEW.login) = length(NEW.login)
                             THEN lower(NEW.login COLLATE "C") END;
        BEGIN
            IF TG_OP = 'INSERT' THEN
                NEW.login_key := key;
                RETURN NEW;
            END IF;
            UPDATE users SET login_key = key WHERE id = NEW.id;
            RETURN NULL;
        END $$""")
    op.execute("""
        CREATE OR REPLACE TRIGGER login_key_of_new BEFORE INSERT ON users
        FOR EACH ROW WHEN (NEW.login_key IS NULL) EXECUTE FUNCTION fill_login_key()""")
    op.execute("""
        CREATE OR REPLACE TRIGGER login_key_of_changed AFTER UPDATE OF login ON users
        FOR EACH ROW WHEN (NEW.login IS DISTINCT FROM OLD.login
                           AND NEW.login_key IS NOT DISTINCT FROM OLD.login_key)
        EXECUTE FUNCTION fill_login_key()""")


def downgrade() -> None:
    op.drop_index(INDEX, "users")
    for trigger in ("login_key_of_changed", "login_key_of_new"):
        op.execute(f"DROP TRIGGER {trigger} ON users")
    op.execute("DROP FUNCTION fill_login_key")
    op.drop_column("users", "login_key")
