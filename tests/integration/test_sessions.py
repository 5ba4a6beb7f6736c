"""Sessions of operators: how they begin, go on, and end everywhere within five seconds."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest
from passlib.context import CryptContext

from botfarm.crypto.key_ring import KeyRing, generate_key
from botfarm.db.access import operator_queries, session_queries
from botfarm.domain.access import EVERYTHING, Principal, Role, Scope
from botfarm.errors import UnauthenticatedError
from botfarm.services.access.login_throttle import LoginThrottle
from botfarm.services.access.passwords import Passwords
from botfarm.services.access.sessions import JWT_LIFE, Sessions
from botfarm.services.shared.shutdown import Shutdown
from support.farm import KEYS, PASSWORD, Farm, open_farm

ADDRESS = "192.0.2.1"
PURPOSE = b"botfarm session jwt"


@pytest.fixture
async def ann(farm: Farm) -> Principal:
    scope = Scope(None, frozenset({"stage"}))
    await farm.services.operators.add("Ann", PASSWORD, Role.MANAGER, scope)
    return Principal("operator:Ann", Role.MANAGER, scope)


async def sign_in(sessions: Sessions, name: str = "Ann", password: str = PASSWORD) -> str:
    _, badge = await sessions.login(name, password, address=ADDRESS, request_id="r-1")
    return badge.jwt


async def refused(sessions: Sessions, token: str) -> None:
    with pytest.raises(UnauthenticatedError):
        await sessions.authenticate(token)


async def audited(farm: Farm, action: str) -> list[tuple[Any, ...]]:
    rows = await farm.sql.fetch(
        "SELECT principal, target_id, address, request_id, details FROM audit WHERE action = $1 ORDER BY id",
        action,
    )
    return [(*row[:4], json.loads(row["details"])) for row in rows]


def claims_of(token: str) -> dict[str, Any]:
    return dict(jwt.decode(token, options={"verify_signature": False}))


def signed(ring: KeyRing, claims: dict[str, Any], *, kid: str | None = None, **how: Any) -> str:
    kid = kid or ring.active_key_id or ""
    how = {"key": ring.derive(PURPOSE), "algorithm": "HS256", "headers": {"kid": kid}, **how}
    return jwt.encode(claims, **how)


def aged(token: str, seconds: float) -> str:
    """As it would be so much later."""
    claims = claims_of(token)
    claims |= {"iat": int(claims["iat"] - seconds), "exp": int(claims["exp"] - seconds)}
    return signed(KeyRing.parse(KEYS), claims)


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def replica(farm: Farm, clock: Clock, keys: str = KEYS) -> AsyncIterator[Sessions]:
    """Sessions of another process on the same database, with a clock of its own."""
    passwords = Passwords()
    try:
        yield Sessions(
            farm.database, KeyRing.parse(keys), passwords, LoginThrottle(), Shutdown(), clock=clock
        )
    finally:
        passwords.close()


async def test_a_login_makes_a_session_of_twelve_hours(farm: Farm, ann: Principal) -> None:
    session, badge = await farm.services.sessions.login("aNN", PASSWORD, address=ADDRESS, request_id="r-1")
    assert await farm.services.sessions.authenticate(badge.jwt) == (ann, None)
    lasts = await farm.sql.fetchval("SELECT expires_at - clock_timestamp() FROM sessions")
    assert 12 * 3600 - 60 < lasts.total_seconds() <= 12 * 3600
    assert badge.lasts == pytest.approx(12 * 3600, abs=60)
    claims = claims_of(badge.jwt)
    assert claims == {
        "iss": "botfarm",
        "aud": "botfarm-api",
        "sub": str(session.operator.id),
        "sid": str(session.id),
        "iat": pytest.approx(time.time(), abs=60),
        "exp": claims["iat"] + 300,
    }
    assert jwt.get_unverified_header(badge.jwt) == {"alg": "HS256", "typ": "JWT", "kid": "test"}
    assert await audited(farm, "login") == [("operator:Ann", "Ann", ADDRESS, "r-1", {})]
    assert badge.jwt not in repr(badge)


@pytest.mark.usefixtures("ann")
async def test_wrong_unknown_and_disabled_get_the_same_answer(farm: Farm) -> None:
    await farm.services.operators.add("Bob", PASSWORD, Role.ADMIN, EVERYTHING)
    await farm.services.operators.disable("Bob")
    said = set()
    for name, password in (("Ann", "wrong"), (PASSWORD, "Ann"), ("Bob", PASSWORD)):
        with pytest.raises(UnauthenticatedError) as caught:
            await sign_in(farm.services.sessions, name, password)
        said.add(caught.value.detail)
    assert len(said) == 1
    assert await farm.sql.fetchval("SELECT count(*) FROM sessions") == 0
    assert await audited(farm, "login_failed") == [
        ("anonymous", "Ann", ADDRESS, "r-1", {"reason": "wrong-password"}),
        ("anonymous", "?", ADDRESS, "r-1", {"reason": "unknown-name"}),
        ("anonymous", "Bob", ADDRESS, "r-1", {"reason": "disabled"}),
    ]
    assert PASSWORD not in str(await farm.sql.fetch("SELECT a::text FROM audit a"))


async def test_a_name_that_no_operator_can_have_is_unknown_in_every_locale(
    farm: Farm,
) -> None:
    """In some locales PostgreSQL folds this Turkish capital to the i of `admin`; the throttle does not."""
    await farm.services.operators.add("admin", PASSWORD, Role.ADMIN, EVERYTHING)
    await farm.sql.execute("UPDATE operators SET name = $1", "ADM\u0130N")  # simulates such a locale
    with pytest.raises(UnauthenticatedError):
        await sign_in(farm.services.sessions, "ADM\u0130N")
    assert [entry[-1] for entry in await audited(farm, "login_failed")] == [{"reason": "unknown-name"}]


@pytest.mark.usefixtures("ann")
@pytest.mark.costly
async def test_a_hash_of_older_parameters_is_replaced_at_login(farm: Farm) -> None:
    old = CryptContext(["argon2"], argon2__type="ID", argon2__memory_cost=1_024, argon2__time_cost=1)
    await farm.sql.execute("UPDATE operators SET password_hash = $1", old.hash(PASSWORD))
    with pytest.raises(UnauthenticatedError):
        await sign_in(farm.services.sessions, password="wrong")
    assert "m=1024," in await farm.sql.fetchval("SELECT password_hash FROM operators")
    await sign_in(farm.services.sessions)
    assert "m=19456,t=2,p=1" in await farm.sql.fetchval("SELECT password_hash FROM operators")
    await sign_in(farm.services.sessions)


@pytest.mark.usefixtures("ann")
async def test_a_password_that_changes_while_the_old_one_is_checked_opens_nothing(farm: Farm) -> None:
    async with farm.database.transaction() as transaction:
        operator = await operator_queries.find_operator(transaction, "Ann", for_update=True)
        assert operator
        await operator_queries.set_password_hash(transaction, operator.id, "another")
        signing_in = asyncio.create_task(sign_in(farm.services.sessions))
        await farm.until_blocked()
        await session_queries.end_sessions_of(transaction, operator.id)
    with pytest.raises(UnauthenticatedError):
        await signing_in
    assert await farm.sql.fetchval("SELECT count(*) FROM sessions") == 0


async def test_a_logout_ends_the_session_here_at_once_and_elsewhere_within_five_seconds(
    farm: Farm, ann: Principal
) -> None:
    clock = Clock()
    async with replica(farm, clock) as elsewhere:
        token, other = await sign_in(farm.services.sessions), await sign_in(farm.services.sessions)
        assert (await elsewhere.authenticate(token))[0] == ann
        await farm.services.sessions.authenticate(token)
        await farm.services.sessions.logout(token, address=ADDRESS, request_id="r-2")
        await refused(farm.services.sessions, token)
        clock.now += 5
        await refused(elsewhere, token)
        await elsewhere.authenticate(other)
        await elsewhere.logout(token, address=ADDRESS, request_id="r-3")
        await elsewhere.logout("nonsense", address=ADDRESS, request_id="r-4")
    assert await audited(farm, "logout") == [("operator:Ann", "Ann", ADDRESS, "r-2", {})]


@pytest.mark.usefixtures("ann")
async def test_a_refresh_forgets_ended_sessions_before_they_are_old(farm: Farm) -> None:
    async with replica(farm, Clock()) as elsewhere:
        token = await sign_in(farm.services.sessions)
        await elsewhere.authenticate(token)
        await farm.services.operators.disable("Ann")
        await elsewhere.authenticate(token)
        await elsewhere.refresh()
        await refused(elsewhere, token)


@pytest.mark.usefixtures("ann")
@pytest.mark.parametrize("change", ["disable", "set_password"])
async def test_a_change_of_the_operator_ends_sessions_within_five_seconds(farm: Farm, change: str) -> None:
    clock = Clock()
    async with replica(farm, clock) as elsewhere:
        token = await sign_in(farm.services.sessions)
        await elsewhere.authenticate(token)
        if change == "disable":
            await farm.services.operators.disable("Ann")
        else:
            await farm.services.operators.set_password("Ann", "another password")
        clock.now += 5
        await refused(elsewhere, token)
        await refused(elsewhere, aged(token, JWT_LIFE))


async def test_a_session_ends_after_its_hours_to_the_second(farm: Farm, ann: Principal) -> None:
    clock = Clock()
    async with replica(farm, clock) as elsewhere:
        token = await sign_in(elsewhere)
        await farm.sql.execute("UPDATE sessions SET expires_at = clock_timestamp() + interval '1 minute'")
        assert (await elsewhere.authenticate(token))[0] == ann
        await farm.sql.execute("UPDATE sessions SET expires_at = clock_timestamp() - interval '1 second'")
        clock.now += 5
        await refused(elsewhere, token)
        await refused(elsewhere, aged(token, JWT_LIFE))


async def test_a_jwt_past_half_its_life_is_replaced(farm: Farm, ann: Principal) -> None:
    sessions = farm.services.sessions
    token = await sign_in(sessions)
    assert await sessions.authenticate(aged(token, JWT_LIFE / 2 - 30)) == (ann, None)
    principal, badge = await sessions.authenticate(aged(token, JWT_LIFE / 2))
    assert principal == ann
    assert badge is not None
    assert badge.lasts == pytest.approx(12 * 3600, abs=60)
    renewed = claims_of(badge.jwt)
    assert renewed["sid"] == claims_of(token)["sid"]
    assert renewed["exp"] == pytest.approx(time.time() + JWT_LIFE, abs=60)
    assert await sessions.authenticate(badge.jwt) == (ann, None)


async def test_an_expired_jwt_is_replaced_while_its_session_lives(farm: Farm, ann: Principal) -> None:
    sessions = farm.services.sessions
    token = await sign_in(sessions)
    old = aged(token, 3 * 3600)
    principal, badge = await sessions.authenticate(old)
    assert principal == ann
    assert badge is not None
    await sessions.authenticate(token)
    await farm.sql.execute("UPDATE sessions SET ended_at = clock_timestamp()")
    assert await sessions.authenticate(token), "known for some seconds"
    await refused(sessions, old)


async def test_sessions_survive_a_key_rotation_until_the_old_key_is_dropped(
    farm: Farm, ann: Principal
) -> None:
    token, new_key = await sign_in(farm.services.sessions), generate_key("k2")
    async with replica(farm, Clock(), f"{new_key},{KEYS}") as rotated:
        principal, badge = await rotated.authenticate(aged(token, JWT_LIFE))
        assert principal == ann
        assert badge is not None
        assert jwt.get_unverified_header(badge.jwt)["kid"] == "k2"
    async with replica(farm, Clock(), new_key) as without_old:
        await without_old.authenticate(badge.jwt)
        await refused(without_old, token)


async def test_a_token_that_was_not_signed_for_sessions_is_refused(farm: Farm, ann: Principal) -> None:
    sessions = farm.services.sessions
    token, ring, foreign = await sign_in(sessions), KeyRing.parse(KEYS), KeyRing.parse(generate_key("test"))
    claims = claims_of(token)
    assert await sessions.authenticate(signed(ring, claims)) == (ann, None), "the others differ in one thing"
    head, body, signature = token.split(".")
    unsigned = jwt.encode(claims, None, "none", headers={"kid": "test"})
    forged = {
        "alg none": unsigned,
        "alg none with our signature": f"{unsigned.split('.')[0]}.{body}.{signature}",
        "no signature": f"{head}.{body}.",
        "another algorithm": signed(ring, claims, algorithm="HS512", key=ring.derive(PURPOSE) * 2),
        "another key of the same id": signed(foreign, claims),
        "a key that we do not have": signed(ring, claims, kid="k9"),
        "no key id": signed(ring, claims, headers={}),
        "an empty key id": signed(ring, claims, headers={"kid": ""}),
        "derived for something else": signed(ring, claims, key=ring.derive(b"something else")),
        "another audience": signed(ring, claims | {"aud": "another"}),
        "another issuer": signed(ring, claims | {"iss": "another"}),
        "another operator": signed(ring, claims | {"sub": str(uuid4())}),
        "no such session": signed(ring, claims | {"sid": str(uuid4())}),
        "an id that is none": signed(ring, claims | {"sid": "x"}),
        "an id that is no text": signed(ring, claims | {"sid": 7}),
        "a time that is none": signed(ring, claims | {"exp": "soon"}),
        **{f"no {name}": signed(ring, {k: v for k, v in claims.items() if k != name}) for name in claims},
        "nothing": "",
        "no JWT": "a.b.c",
        "not even text": "\udcff",
    }
    passed = []
    for what, each in forged.items():
        try:
            await sessions.authenticate(each)
        except UnauthenticatedError:
            continue
        passed.append(what)
    assert passed == []


async def test_a_session_in_use_costs_no_query(farm: Farm, ann: Principal) -> None:
    token = await sign_in(farm.services.sessions)
    await farm.services.sessions.authenticate(token)
    async with farm.sql.transaction():
        await farm.sql.execute("LOCK TABLE sessions")
        assert (await farm.services.sessions.authenticate(token))[0] == ann


@pytest.mark.usefixtures("ann")
async def test_old_sessions_are_cleared_away(farm: Farm) -> None:
    first = await sign_in(farm.services.sessions)
    await farm.sql.execute("UPDATE sessions SET expires_at = clock_timestamp() - interval '2 days'")
    second = await sign_in(farm.services.sessions)
    left = {row["id"] for row in await farm.sql.fetch("SELECT id FROM sessions")}
    assert left == {UUID(claims_of(second)["sid"])}
    await refused(farm.services.sessions, first)


async def test_a_farm_without_keys_still_manages_operators(database_url: str) -> None:
    async with open_farm(database_url, encryption_keys="") as farm:
        await farm.services.operators.add("ann", PASSWORD, Role.ADMIN, EVERYTHING)
        assert await farm.services.operators.list()
