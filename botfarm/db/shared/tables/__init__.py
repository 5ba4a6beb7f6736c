"""The tables, by rooms.

Text with CHECK rather than ENUM types, so that a new value is a small migration and no type change.
"""

from botfarm.db.shared.tables.access import (
    AuditRow,
    OperatorRow,
    RunTokenRow,
    SessionRow,
    SpentIdentityTokenRow,
    TokenRow,
    TrustRuleRow,
)
from botfarm.db.shared.tables.base import Base, fence_sequence, metadata
from botfarm.db.shared.tables.leasing import LeaseRow, LeaseUserRow
from botfarm.db.shared.tables.stock import ProjectRow, UserRow
from botfarm.db.shared.tables.usage import RefusedRequestsRow, RollupHourRow, RollupRow
from botfarm.db.shared.tables.waiting import ReplicaRow, TicketRow

__all__ = [
    "AuditRow",
    "Base",
    "LeaseRow",
    "LeaseUserRow",
    "OperatorRow",
    "ProjectRow",
    "RefusedRequestsRow",
    "ReplicaRow",
    "RollupHourRow",
    "RollupRow",
    "RunTokenRow",
    "SessionRow",
    "SpentIdentityTokenRow",
    "TicketRow",
    "TokenRow",
    "TrustRuleRow",
    "UserRow",
    "fence_sequence",
    "metadata",
]
