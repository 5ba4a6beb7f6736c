"""Operators' sessions: rows, and short JWTs that save a query for each request (decision 0012)."""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

import jwt
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.crypto.key_ring import KeyRing, KeyRingError
from botfarm.db.access import audit_queries, operator_queries, session_queries
from botfarm.db.access.operator_queries import Credentials
from botfarm.db.postgres.engine import Database
from botfarm.domain.access import EVERYTHING, Operator, Principal, Role, Session
from botfarm.errors import UnauthenticatedError
from botfarm.services.access.login_throttle import LoginThrottle
from botfarm.services.access.operators import NAME
from botfarm.services.access.passwords import Passwords
from botfarm.services.shared.shutdown import Shutdown
from botfarm.services.shared.ttl_cache import TtlCache

LONGEST_SESSION = timedelta(hours=12)
JWT_LIFE = 300
"""Seconds that a JWT lives. At half of them it is replaced."""
_ALGORITHM, _ISSUER, _AUDIENCE = "HS256", "botfarm", "botfarm-api"
_PURPOSE = b"botfarm session jwt"
_CLAIMS = ("iss", "aud", "sub", "sid", "iat", "exp")


@dataclass(frozen=True, slots=True)
class Badge:
    """The JWT in an operator's cookie, and its life in seconds."""

    jwt: str = field(repr=False)
    lasts: float


@dataclass(frozen=True, slots=True)
class _Claims:
    session_id: UUID
    operator_id: UUID
    issued_at: float
    expires_at: float


class Sessions:
    def __init__(
        self,
        database: Database,
        key_ring: KeyRing,
        passwords: Passwords,
        throttle: LoginThrottle,
        shutdown: Shutdown,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._key_ring = key_ring
        self._passwords = passwords
        self._throttle = throttle
        self._shutdown = shutdown
        self._live: TtlCache[UUID, Session] = TtlCache(
            self._load, lifetime=lambda session: session.seconds_left, clock=clock
        )

    async def login(
        self,
        name: str,
        password: str,
        *,
        address: str | None,
        request_id: str | None,
        former: str | None = None,
    ) -> tuple[Session, Badge]:
        """Signs an operator in. Takes equally long for a name that is unknown or disabled.

        Ends the session of the `former` token, because the browser forgets that token. Raises
        UnauthenticatedError, SlowDownError, ShuttingDownError.
        """
        await self._shutdown.pause(self._throttle.delay(name, address))
        found = await self._find(name)
        enabled = found if found and found.operator.disabled_at is None else None
        right, new_hash = await self._passwords.verify_and_update(
            password, enabled.password_hash if enabled else None
        )
        former_id = self._session_id(former) if former else None
        session = (
            await self._open(enabled, new_hash, former_id, address, request_id) if right and enabled else None
        )
        if session is None:
            await self._record_failure(found, address, request_id)
            raise UnauthenticatedError("The name or the password is wrong.")
        if former_id is not None:
            self._live.forget(former_id)
        self._throttle.succeeded(name, address)
        return session, self._badge(session)

    async def open_for(
        self,
        transaction: AsyncSession,
        operator: Operator,
        *,
        former: str | None,
        address: str | None,
        request_id: str | None,
        by: str,
    ) -> tuple[Session, Badge]:
        """Opens a session for an operator that somebody else has verified, in the caller's transaction.

        `by` is who, for the audit. Ends the session of the `former` token.
        """
        session = await session_queries.insert_session(transaction, operator, longest=LONGEST_SESSION)
        principal = _principal(session, address, request_id)
        await audit_queries.record(
            transaction, principal, "login", target="operator", target_id=operator.name, details={"by": by}
        )
        former_id = self._session_id(former) if former else None
        if former_id is not None:
            await _end(transaction, former_id, address, request_id)
            self._live.forget(former_id)
        return session, self._badge(session)

    async def authenticate(self, token: str) -> tuple[Principal, Badge | None]:
        """The operator of a session's token, and a new badge when the token is past half of its life.

        Raises UnauthenticatedError.
        """
        claims = self._claims(token)
        age, expired = time.time() - claims.issued_at, time.time() >= claims.expires_at
        # Within a JWT's life a cached session may be seconds old; a new JWT needs a query.
        session = await (self._live.look_up if expired else self._live.get)(claims.session_id)
        if session is None or session.operator.id != claims.operator_id:
            raise UnauthenticatedError("The session has ended: sign in again.")
        operator = session.operator
        principal = Principal(operator.principal_name, operator.role, operator.scope, session_id=session.id)
        return principal, self._badge(session) if expired or age >= JWT_LIFE / 2 else None

    async def is_live(self, session_id: UUID) -> bool:
        """Whether the session still is, as the cache knows it."""
        return await self._live.get(session_id) is not None

    async def logout(self, token: str, *, address: str | None, request_id: str | None) -> None:
        """Ends the session of the token. Does nothing when it has ended, or the token is invalid."""
        session_id = self._session_id(token)
        if session_id is None:
            return
        async with self._database.transaction() as transaction:
            await _end(transaction, session_id, address, request_id)
        self._live.forget(session_id)

    async def refresh(self) -> None:
        """Reads all sessions in use with one query, so that requests need none."""
        await self._live.refresh()

    async def _load(self, ids: Collection[UUID]) -> Mapping[UUID, Session]:
        async with self._database.autocommit() as session:
            return await session_queries.live_sessions(session, ids)

    async def _find(self, name: str) -> Credentials | None:
        """None, without a query, for a name that no operator can have.

        For such names PostgreSQL's lower() and that of the throttle differ.
        """
        if not NAME.fullmatch(name):
            return None
        async with self._database.autocommit() as session:
            return await operator_queries.find_credentials(session, name)

    async def _open(
        self,
        verified: Credentials,
        new_hash: str | None,
        former_id: UUID | None,
        address: str | None,
        request_id: str | None,
    ) -> Session | None:
        """None when the operator was disabled or got another password since this one was verified."""
        operator = verified.operator
        async with self._database.transaction() as transaction:
            if not await operator_queries.lock_unchanged(transaction, verified):
                return None
            if new_hash is not None:
                await operator_queries.set_password_hash(transaction, operator.id, new_hash)
            session = await session_queries.insert_session(transaction, operator, longest=LONGEST_SESSION)
            principal = _principal(session, address, request_id)
            await audit_queries.record(
                transaction, principal, "login", target="operator", target_id=operator.name
            )
            if former_id is not None:
                await _end(transaction, former_id, address, request_id)
        return session

    async def _record_failure(
        self, found: Credentials | None, address: str | None, request_id: str | None
    ) -> None:
        """Records no name that is not an operator's, because it may be a password in the wrong field."""
        stranger = Principal("anonymous", Role.VIEWER, EVERYTHING, address=address, request_id=request_id)
        if found is None:
            name, reason = "?", "unknown-name"
        else:
            name = found.operator.name
            reason = "disabled" if found.operator.disabled_at else "wrong-password"
        async with self._database.transaction() as transaction:
            await audit_queries.record(
                transaction,
                stranger,
                "login_failed",
                target="operator",
                target_id=name,
                details={"reason": reason},
            )

    def _badge(self, session: Session) -> Badge:
        now = int(time.time())
        claims = {
            "iss": _ISSUER,
            "aud": _AUDIENCE,
            "sub": str(session.operator.id),
            "sid": str(session.id),
            "iat": now,
            "exp": now + JWT_LIFE,
        }
        headers = {"kid": self._key_ring.active_key_id}
        signed = jwt.encode(claims, self._key_ring.derive(_PURPOSE), _ALGORITHM, headers=headers)
        return Badge(signed, session.seconds_left)

    def _session_id(self, token: str) -> UUID | None:
        try:
            return self._claims(token).session_id
        except UnauthenticatedError:
            return None

    def _claims(self, token: str) -> _Claims:
        """The claims of a JWT with a valid signature, expired or not. Raises UnauthenticatedError."""
        try:
            key = self._key_ring.derive(_PURPOSE, jwt.get_unverified_header(token)["kid"])
            claims = jwt.decode(
                token,
                key,
                algorithms=[_ALGORITHM],
                audience=_AUDIENCE,
                issuer=_ISSUER,
                # Times are judged by the caller. Another replica's clock may be ahead of this one.
                options={"require": list(_CLAIMS), "verify_exp": False, "verify_iat": False},
            )
            return _Claims(
                session_id=UUID(claims["sid"]),
                operator_id=UUID(claims["sub"]),
                issued_at=float(claims["iat"]),
                expires_at=float(claims["exp"]),
            )
        except (jwt.PyJWTError, KeyRingError, LookupError, TypeError, ValueError, AttributeError):
            raise UnauthenticatedError("The session cannot be used: sign in again.") from None


async def _end(
    transaction: AsyncSession, session_id: UUID, address: str | None, request_id: str | None
) -> None:
    session = (await session_queries.live_sessions(transaction, {session_id})).get(session_id)
    if session is not None and await session_queries.end_session(transaction, session_id):
        principal = _principal(session, address, request_id)
        await audit_queries.record(
            transaction, principal, "logout", target="operator", target_id=session.operator.name
        )


def _principal(session: Session, address: str | None, request_id: str | None) -> Principal:
    operator = session.operator
    return Principal(
        operator.principal_name, operator.role, operator.scope, address=address, request_id=request_id
    )
