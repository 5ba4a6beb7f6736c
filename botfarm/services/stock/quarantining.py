"""Quarantines users by the policy of their project, inside the transaction that ends their leases."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from botfarm import metrics
from botfarm.db.access import audit_queries
from botfarm.db.stock import status_queries
from botfarm.db.stock.status_queries import Quarantine
from botfarm.domain.access import THE_POLICY
from botfarm.domain.pools import Pool
from botfarm.domain.users import POLICY
from botfarm.logs import get_logger

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Judgement:
    """The decisions of the policy on users of one pool."""

    pool: Pool
    project_name: str
    quarantines: list[Quarantine]

    def count(self) -> None:
        """Counts and logs the decisions. Call it when they are committed."""
        labels = metrics.pool_labels(self.project_name, self.pool.env, self.pool.domain)
        for each in self.quarantines:
            if each.is_capped:
                metrics.quarantine_capped_total.labels(*labels).inc()
            else:
                metrics.quarantines_total.labels(*labels, POLICY, each.reason).inc()
            logger.warning(
                "quarantine withheld, too many within an hour" if each.is_capped else "user quarantined",
                user_id=str(each.user_id),
                reason=each.reason,
            )


async def judge(
    session: AsyncSession,
    pool: Pool,
    project_name: str,
    failed: Mapping[UUID, tuple[UUID | None, str | None]],
) -> Judgement:
    """Quarantines those of the users that have failed too often.

    `failed` are users with their last lease and the reason of its failure. The caller holds the lock of the pool.
    """
    reasons = {user_id: reason for user_id, (_, reason) in failed.items()}
    decided = await status_queries.quarantine_by_policy(session, pool, reasons)
    for each in decided:
        lease_id, _ = failed[each.user_id]
        await audit_queries.record(
            session,
            THE_POLICY,
            "withhold_quarantine" if each.is_capped else "quarantine_user",
            target="user",
            target_id=each.user_id,
            project_id=pool.project_id,
            env=pool.env,
            details={"reason": each.reason, "lease_id": lease_id},
        )
    return Judgement(pool, project_name, decided)
