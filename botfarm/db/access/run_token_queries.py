"""The tokens of runs of a CI, and the identity tokens that were exchanged for them."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy import ARRAY, Text, bindparam, delete, func, insert, literal, select
from sqlalchemy.dialects.postgresql import insert as insert_or_pass
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.access.trust_rule_queries import rule_of
from botfarm.db.shared.tables import RunTokenRow, SpentIdentityTokenRow, TrustRuleRow
from botfarm.domain.access import LiveToken, Principal, Run, run_principal
from botfarm.domain.trust import TrustRule

_CLOCK = func.clock_timestamp()


@dataclass(frozen=True, slots=True)
class NewRunToken:
    rule: TrustRule
    run_id: str
    run: Run
    secret_hash: bytes = field(repr=False)


async def insert_run_token(session: AsyncSession, new: NewRunToken) -> None:
    ttl = timedelta(seconds=new.rule.token_ttl)
    await session.execute(
        insert(RunTokenRow).values(
            id=new.run.token_id,
            secret_hash=new.secret_hash,
            rule_id=new.rule.id,
            run=new.run_id,
            owner=new.run.owner,
            run_metadata=dict(new.run.metadata),
            expires_at=_CLOCK + literal(ttl),
        )
    )


async def live_run_tokens(session: AsyncSession, ids: Collection[str]) -> dict[str, LiveToken]:
    """Returns the tokens in force by their ids: not expired, and with a rule that is there."""
    left = func.extract("epoch", RunTokenRow.expires_at - _CLOCK)
    statement = (
        select(RunTokenRow, TrustRuleRow, left)
        .join(TrustRuleRow, RunTokenRow.rule_id == TrustRuleRow.id)
        .where(
            RunTokenRow.id == func.any(bindparam("ids", list(ids), ARRAY(Text()))),
            RunTokenRow.expires_at > _CLOCK,
            TrustRuleRow.deleted_at.is_(None),
        )
    )
    return {
        row.id: LiveToken(_principal(row, rule_of(rule)), row.secret_hash, float(expires_in))
        for row, rule, expires_in in await session.execute(statement)
    }


async def spend_identity_token(session: AsyncSession, digest: bytes, *, seconds: float) -> bool:
    """Marks the identity token as exchanged, for so many seconds. False when it was already."""
    statement = (
        insert_or_pass(SpentIdentityTokenRow)
        .values(digest=digest, expires_at=_CLOCK + literal(timedelta(seconds=seconds)))
        .on_conflict_do_nothing()
        .returning(SpentIdentityTokenRow.digest)
    )
    return await session.scalar(statement) is not None


async def prune_run_tokens(session: AsyncSession, *, batch: int) -> int:
    """Deletes expired tokens of runs, and marks of identity tokens that have expired. Returns their number."""
    pruned = 0
    for table, key in ((RunTokenRow, RunTokenRow.id), (SpentIdentityTokenRow, SpentIdentityTokenRow.digest)):
        old = select(key).where(table.expires_at < _CLOCK).order_by(table.expires_at).limit(batch)
        pruned += len((await session.scalars(delete(table).where(key.in_(old)).returning(key))).all())
    return pruned


def _principal(row: RunTokenRow, rule: TrustRule) -> Principal:
    return Principal(
        run_principal(rule.name, row.run),
        rule.role,
        rule.scope,
        rule.max_leases,
        row.expires_at,
        run=Run(
            token_id=row.id,
            owner=row.owner,
            metadata=row.run_metadata,
            rule=rule.name,
            max_leases_of_rule=rule.max_leases_of_all,
        ),
    )
