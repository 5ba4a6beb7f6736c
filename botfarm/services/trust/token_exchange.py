"""Exchanges the identity token of a CI's run for a token of the farm, by the trust rules (RFC 8693).

Every refusal is one text for the caller, and its exact reason in the audit and the log. Only what fails is held back:
a token that is good passes, also from an address that others flood, such as the gateway of a whole company.
"""

import hashlib
import math
import time
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncSession

from botfarm import metrics
from botfarm.crypto.api_tokens import new_token
from botfarm.db.access import audit_queries, run_token_queries, trust_rule_queries
from botfarm.db.access.run_token_queries import NewRunToken
from botfarm.db.postgres.engine import Database
from botfarm.domain.access import EVERYTHING, Principal, Role, run_principal
from botfarm.domain.trust import TrustRule, run_of
from botfarm.errors import SlowDownError
from botfarm.logs import get_logger
from botfarm.services.trust.failure_limit import FailureLimit
from botfarm.services.trust.identity_tokens import (
    LEEWAY,
    IdentityToken,
    IdentityTokens,
    RefusedError,
    issuer_of,
)
from botfarm.services.trust.issuer_keys import IssuerKeys
from botfarm.services.trust.trust_rules import TrustRules

logger = get_logger(__name__)

_CLOCKS_APART = 60
"""Seconds that an exchanged identity token is remembered longer, because the database's clock may differ."""


@dataclass(frozen=True, slots=True)
class GivenToken:
    written: str = field(repr=False)
    expires_in: int


class TokenExchange:
    def __init__(
        self, database: Database, trust_rules: TrustRules, keys: IssuerKeys, *, audience: str | None
    ) -> None:
        """`audience` is the address of this farm; without one, every token is refused."""
        self._database = database
        self._trust_rules = trust_rules
        self._audience = audience
        self._identity_tokens = IdentityTokens(keys, audience=audience) if audience else None
        self._failures = FailureLimit()

    def is_for(self, audience: str) -> bool:
        """Whether this farm gives tokens for this address."""
        return audience.rstrip("/") == self._audience

    async def exchange(
        self, subject_token: str, *, address: str | None, request_id: str | None
    ) -> GivenToken:
        """Raises RefusedError, and SlowDownError when too many tokens from this address were refused."""
        try:
            rule, given = await self._exchange(subject_token, address, request_id)
        except RefusedError as error:
            await self._refused(error, address, request_id)
            raise
        metrics.token_exchanges_total.labels(rule.name, "granted").inc()
        return given

    async def _exchange(
        self, subject_token: str, address: str | None, request_id: str | None
    ) -> tuple[TrustRule, GivenToken]:
        if self._identity_tokens is None:
            raise RefusedError("BOTFARM_PUBLIC_URL is not set")
        issuer = issuer_of(subject_token)
        if issuer is None:
            raise RefusedError("not a JWT")
        rules = await self._trust_rules.of_issuer(issuer)
        if not rules:
            raise RefusedError("no trust rule has this issuer")
        identity = await self._identity_tokens.verify(subject_token, issuer=issuer)
        rule = _matching(rules, identity)
        token = new_token()
        found = run_of(identity.claims, token_id=token.id, rule=rule)
        if found is None:
            raise RefusedError("the run has no usable id", rule=rule.name)
        run_id, run = found
        new = NewRunToken(rule, run_id, run, token.secret_hash)
        principal = Principal(
            run_principal(rule.name, run_id), rule.role, rule.scope, address=address, request_id=request_id
        )
        async with self._database.transaction() as session:
            await self._give(session, principal, new, identity)
        return rule, GivenToken(token.write(), rule.token_ttl)

    async def _give(
        self, session: AsyncSession, principal: Principal, new: NewRunToken, identity: IdentityToken
    ) -> None:
        if not await trust_rule_queries.lock_trust_rule(session, new.rule.id):
            raise RefusedError("the trust rule was deleted", rule=new.rule.name)
        if new.rule.once:
            digest = hashlib.sha256(identity.digest_input).digest()
            seconds = identity.expires_at - time.time() + LEEWAY + _CLOCKS_APART
            if not await run_token_queries.spend_identity_token(session, digest, seconds=seconds):
                raise RefusedError("exchanged before", rule=new.rule.name)
        await run_token_queries.insert_run_token(session, new)
        details = {"rule": new.rule.name, "owner": new.run.owner, "expires_in": new.rule.token_ttl}
        await audit_queries.record(
            session, principal, "exchange_token", target="trust_rule", target_id=new.rule.id, details=details
        )

    async def _refused(self, error: RefusedError, address: str | None, request_id: str | None) -> None:
        pause = self._failures.count(address)
        result = "refused" if pause is None else "held_back"
        metrics.token_exchanges_total.labels(error.rule or "", result).inc()
        if pause is not None:
            raise SlowDownError(retry_after=math.ceil(pause))
        logger.warning("token exchange refused", reason=str(error), rule=error.rule)
        stranger = Principal("anonymous", Role.VIEWER, EVERYTHING, address=address, request_id=request_id)
        async with self._database.transaction() as session:
            await audit_queries.record(
                session,
                stranger,
                "exchange_failed",
                target="trust_rule",
                target_id=error.rule or "?",
                details={"reason": str(error)},
            )


def _matching(rules: list[TrustRule], identity: IdentityToken) -> TrustRule:
    """The oldest rule that the claims fit. Raises RefusedError with the claim in which the nearest rule differs."""
    differences = [(rule, rule.differs(identity.claims)) for rule in rules]
    for rule, difference in differences:
        if difference is None:
            return rule
    if len(differences) == 1:
        rule, difference = differences[0]
        raise RefusedError(f"the claim {difference} is not as the rule wants", rule=rule.name)
    raise RefusedError("no trust rule fits the claims")
