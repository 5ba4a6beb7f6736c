"""Makes a restored database safe.

It knows no leases from after the backup, and their users must not be granted twice.
"""

from dataclasses import dataclass

from botfarm.db.access import audit_queries
from botfarm.db.postgres.engine import Database
from botfarm.db.upkeep import restore_queries
from botfarm.db.upkeep.key_queries import be_patient
from botfarm.db.upkeep.restore_queries import Rest
from botfarm.domain.access import THIS_MACHINE
from botfarm.errors import OperatorError

PATIENCE = 600.0
"""Seconds for the whole transaction, which writes every user in a database with cold caches."""


@dataclass(frozen=True, slots=True)
class Restored:
    ended_leases: int
    rest: Rest
    fence: int
    """Every later lease has a higher fence."""


class AfterRestore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self, *, rest_seconds: int | None) -> Restored:
        """Does all or nothing. Raises OperatorError while the API or a worker is connected."""
        async with self._database.transaction(patience=PATIENCE) as session:
            await be_patient(session, seconds=PATIENCE)
            await restore_queries.stop_hand_outs(session)
            if connected := await restore_queries.connected(session):
                raise OperatorError(
                    f"the API or a worker is connected to this database ({connected}): "
                    "stop them, and run this again"
                )
            ended = await restore_queries.end_leases(session)
            rest = await restore_queries.rest_users(session, seconds=rest_seconds)
            fence = await restore_queries.raise_fence(session)
            details = {
                "ended_leases": ended,
                "users": rest.users,
                "until": rest.until and rest.until.isoformat(),
            }
            await audit_queries.record(
                session, THIS_MACHINE, "after_restore", target="farm", target_id="*", details=details
            )
        return Restored(ended, rest, fence)
