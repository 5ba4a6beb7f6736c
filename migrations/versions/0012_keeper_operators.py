"""The role `keeper` for operators.

Revision ID: 0012
Revises: 0011
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_constraint(op.f("ck_operators_role"), "operators", type_="check")
    op.create_check_constraint(
        op.f("ck_operators_role"), "operators", "role IN ('viewer', 'runner', 'keeper', 'manager', 'admin')"
    )


def downgrade() -> None:
    op.execute("UPDATE operators SET role = 'runner' WHERE role = 'keeper'")
    op.drop_constraint(op.f("ck_operators_role"), "operators", type_="check")
    op.create_check_constraint(
        op.f("ck_operators_role"), "operators", "role IN ('viewer', 'runner', 'manager', 'admin')"
    )
