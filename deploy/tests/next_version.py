"""The version after this one, as a release would bring it: a higher number, and a schema with more in it."""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import botfarm
from botfarm.db.schema.revisions import revisions
from stages import CHECKOUT, run
from support.processes import BOTFARM

PARTS = (
    "botfarm",
    "workers",
    "migrations",
    "clients/python",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "deploy/set-version.sh",
    "deploy/helm/botfarm/Chart.yaml",
)

# As docs/decisions/0035 asks: each locks one table, and adds only what the previous version can do without.
REVISIONS = {
    "users_phone": 'op.add_column("users", sa.Column("phone", sa.Text(), nullable=True))',
    "leases_renewals": """op.add_column(
        "leases", sa.Column("renewals", sa.Integer(), server_default="0", nullable=False)
    )""",
    "tickets_looked_at": """op.add_column(
        "tickets", sa.Column("looked_at", sa.DateTime(timezone=True), nullable=True)
    )""",
    "leases_by_owner": """with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_leases_owner")
        op.execute("CREATE INDEX CONCURRENTLY ix_leases_owner ON leases (owner)")""",
}


@dataclass(frozen=True)
class Version:
    command: str
    """The `botfarm` of this version."""
    number: str
    environment: dict[str, str]


THIS = Version(BOTFARM, botfarm.__version__, {})


def install_next_version(folder: Path) -> Version:
    """Both distributions, made and installed by pip from a changed copy of the checkout."""
    source, installed = folder / "source", folder / "installed"
    for part in PARTS:
        (source / part).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (CHECKOUT / part).is_dir() else shutil.copy
        copy(CHECKOUT / part, source / part)
    major, minor, _ = botfarm.__version__.split(".")
    number = f"{major}.{int(minor) + 1}.0"
    run("sh", str(source / "deploy/set-version.sh"), number)
    for head, (name, upgrade) in enumerate(REVISIONS.items(), start=int(revisions()[-1])):
        _add_revision(source / "migrations/versions", head, name, upgrade)
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    own = ("--no-index", "--no-deps", "--no-build-isolation", "--target", str(installed))
    run(*pip, *own, str(source / "clients/python"), str(source))
    next_version = Version(str(installed / "bin/botfarm"), number, {"PYTHONPATH": str(installed)})
    said = run(next_version.command, "--version", environment=next_version.environment)
    assert said.strip() == f"botfarm {number}"
    return next_version


def _add_revision(folder: Path, head: int, name: str, upgrade: str) -> None:
    (folder / f"{head + 1:04}_{name}.py").write_text(f"""import sqlalchemy as sa
from alembic import op

revision = "{head + 1:04}"
down_revision = "{head:04}"


def upgrade() -> None:
    {upgrade}
""")
