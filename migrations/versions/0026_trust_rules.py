"""Trust rules, the tokens that runs of a CI get by them, and the identity tokens that were exchanged.

Revision ID: 0026
Revises: 0025
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "trust_rules",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("claims", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("projects", postgresql.ARRAY(sa.Uuid()), nullable=True),
        sa.Column("envs", postgresql.ARRAY(sa.Text()), nullable=True),
        sa.Column("max_leases", sa.Integer(), nullable=True),
        sa.Column("max_leases_of_all", sa.Integer(), nullable=True),
        sa.Column("token_ttl", sa.Integer(), nullable=False),
        sa.Column("once", sa.Boolean(), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()
        ),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("role IN ('runner', 'keeper')", name=op.f("ck_trust_rules_role")),
        sa.CheckConstraint("max_leases >= 1", name=op.f("ck_trust_rules_max_leases")),
        sa.CheckConstraint("max_leases_of_all >= 1", name=op.f("ck_trust_rules_max_leases_of_all")),
        sa.CheckConstraint("token_ttl BETWEEN 60 AND 43200", name=op.f("ck_trust_rules_token_ttl")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trust_rules")),
    )
    op.create_index(
        "uq_trust_rules_name",
        "trust_rules",
        ["name"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "run_tokens",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("rule_id", sa.Uuid(), nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("metadata", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()
        ),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["rule_id"], ["trust_rules.id"], name=op.f("fk_run_tokens_rule_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run_tokens")),
    )
    op.create_index("ix_run_tokens_expires_at", "run_tokens", ["expires_at"])
    op.create_table(
        "spent_identity_tokens",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_spent_identity_tokens")),
    )
    op.create_index("ix_spent_identity_tokens_expires_at", "spent_identity_tokens", ["expires_at"])


def downgrade() -> None:
    op.drop_table("spent_identity_tokens")
    op.drop_table("run_tokens")
    op.drop_table("trust_rules")
