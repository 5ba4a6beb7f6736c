"""The role `keeper` for tokens.

Revision ID: 0011
Revises: 0010
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_constraint(op.f("ck_tokens_role"), "tokens", type_="check")
    op.create_check_constraint(
        op.f("ck_tokens_role"), "tokens", "role IN ('viewer', 'runner', 'keeper', 'manager', 'admin')"
    )


def downgrade() -> None:
    op.execute("UPDATE tokens SET role = 'runner' WHERE role = 'keeper'")
    op.drop_constraint(op.f("ck_tokens_role"), "tokens", type_="check")
    op.create_check_constraint(
        op.f("ck_tokens_role"), "tokens", "role IN ('viewer', 'runner', 'manager', 'admin')"
    )
