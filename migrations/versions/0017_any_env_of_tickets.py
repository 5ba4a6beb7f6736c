"""The env and the domain of a ticket are those of its project, which the service checks.

Revision ID: 0017
Revises: 0016
"""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

NAMES = {
    "env": "env IN ('prod', 'preprod', 'stage')",
    "domain": "domain IN ('canary', 'regular')",
}


def upgrade() -> None:
    for name in NAMES:
        op.drop_constraint(op.f(f"ck_tickets_{name}"), "tickets", type_="check")


def downgrade() -> None:
    for name, condition in NAMES.items():
        op.create_check_constraint(op.f(f"ck_tickets_{name}"), "tickets", condition)
