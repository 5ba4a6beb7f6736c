"""Finds the principal of a request's token: of a machine, or of a run of a CI.

Tokens in use are refreshed by a watch, so that requests need no query.
"""

import hmac
from collections.abc import Collection, Mapping

from botfarm.crypto.api_tokens import parse_token
from botfarm.db.access import run_token_queries, token_queries
from botfarm.db.postgres.engine import Database
from botfarm.domain.access import EVERYTHING, LiveToken, Principal, Role
from botfarm.errors import UnauthenticatedError
from botfarm.services.shared.ttl_cache import TtlCache

BOOTSTRAP = Principal("bootstrap", Role.ADMIN, EVERYTHING)


class TokenAuthentication:
    def __init__(self, database: Database, bootstrap_token: str | None) -> None:
        self._database = database
        self._bootstrap_token = bootstrap_token.encode() if bootstrap_token else None
        self._tokens = TtlCache[str, LiveToken](self._load, lifetime=lambda token: token.expires_in)
        self._used: set[str] = set()

    async def principal_of(self, authorization: str) -> Principal:
        """The principal of an Authorization header.

        Raises UnauthenticatedError unless it is `Bearer` and a valid token.
        """
        scheme, _, text = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise UnauthenticatedError
        text = text.strip()
        if self._is_bootstrap(text):
            return BOOTSTRAP
        token = parse_token(text)
        known = await self._tokens.get(token.id) if token else None
        # In constant time, because the duration of a 401 must not tell how much of a guess is right.
        if token is None or known is None or not hmac.compare_digest(known.secret_hash, token.secret_hash):
            raise UnauthenticatedError
        self._used.add(token.id)
        return known.principal

    async def is_in_force(self, token_id: str) -> bool:
        """Whether the token still is, as the cache knows it."""
        return await self._tokens.get(token_id) is not None

    async def refresh(self) -> None:
        """Reads all tokens in use with one query, so that requests need none."""
        await self._tokens.refresh()
        await self.note_use()

    async def note_use(self) -> None:
        used, self._used = self._used, set()
        if used:
            async with self._database.autocommit() as session:
                await token_queries.touch_tokens(session, used)

    async def _load(self, ids: Collection[str]) -> Mapping[str, LiveToken]:
        async with self._database.autocommit() as session:
            tokens = await token_queries.live_tokens(session, ids)
            others = [each for each in ids if each not in tokens]
            return tokens | await run_token_queries.live_run_tokens(session, others) if others else tokens

    def _is_bootstrap(self, text: str) -> bool:
        return self._bootstrap_token is not None and hmac.compare_digest(text.encode(), self._bootstrap_token)
