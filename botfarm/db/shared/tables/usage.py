"""How the farm was used."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Float, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from botfarm.db.shared.tables.base import Base


class RefusedRequestsRow(Base):
    """Requests of one kind that got no user within one minute."""

    __tablename__ = "refused_requests"
    __table_args__ = (CheckConstraint("requests >= 1", name="requests"),)

    minute: Mapped[datetime] = mapped_column(primary_key=True)
    project_id: Mapped[UUID] = mapped_column(primary_key=True)
    env: Mapped[str] = mapped_column(primary_key=True)
    domain: Mapped[str] = mapped_column(primary_key=True)
    purpose: Mapped[str] = mapped_column(primary_key=True)
    result: Mapped[str] = mapped_column(primary_key=True)
    labels: Mapped[dict[str, Any]] = mapped_column(primary_key=True)
    count: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    priority: Mapped[int] = mapped_column(SmallInteger(), primary_key=True, autoincrement=False)
    wait_seconds: Mapped[float] = mapped_column(Float(), primary_key=True)
    requests: Mapped[int] = mapped_column(BigInteger)
    waited: Mapped[float] = mapped_column(Float())
    """Seconds, of all together."""
    longest_wait: Mapped[float] = mapped_column(Float())


class RollupRow(Base):
    """How the tests of one pool used it within one hour. Kept longer than leases and refused requests."""

    __tablename__ = "rollups"
    __table_args__ = ({"postgresql_with": {"fillfactor": 70, "autovacuum_vacuum_scale_factor": 0.02}},)

    hour: Mapped[datetime] = mapped_column(primary_key=True)
    project_id: Mapped[UUID] = mapped_column(primary_key=True)
    env: Mapped[str] = mapped_column(primary_key=True)
    domain: Mapped[str] = mapped_column(primary_key=True)
    granted: Mapped[int] = mapped_column(BigInteger, server_default="0")
    exhausted: Mapped[int] = mapped_column(BigInteger, server_default="0")
    timeout: Mapped[int] = mapped_column(BigInteger, server_default="0")
    gone: Mapped[int] = mapped_column(BigInteger, server_default="0")
    quota: Mapped[int] = mapped_column(BigInteger, server_default="0")
    waits: Mapped[list[int]] = mapped_column(server_default=text("'{}'"))
    """Granted requests by the bucket of their wait; see `WAIT_BOUNDS`."""
    longest_wait: Mapped[float] = mapped_column(Float(), server_default="0")
    busy_seconds: Mapped[float] = mapped_column(Float(), server_default="0")
    in_service_seconds: Mapped[float] = mapped_column(Float(), server_default="0")
    """Counted by the worker as time passes. All other columns follow from leases, refused requests and tickets."""
    peak_demand: Mapped[int] = mapped_column(server_default="0")
    ends: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """Users by the end of their lease: `{"ok": 40, "broken:captcha": 2, "expired": 1}`."""


class RollupHourRow(Base):
    """The state in which an hour began, from which its rollups are computed again.

    The latest hour with `carried` is the first that is not closed.
    """

    __tablename__ = "rollup_hours"

    hour: Mapped[datetime] = mapped_column(primary_key=True)
    first_fence: Mapped[int | None] = mapped_column(BigInteger)
    """Leases with lower fences began before the hour."""
    carried: Mapped[list[int] | None]
    """Fences of those among them that were live when it began."""
    observed_until: Mapped[datetime | None]
    """When users in service were last counted."""
    observed_seconds: Mapped[float] = mapped_column(Float(), server_default="0")
    """For how much of the hour the counts hold."""
