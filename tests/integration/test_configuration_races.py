"""An apply in a forced order with a test that writes back, with another apply, and with the end of its process."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any

import asyncpg
import pytest
from sqlalchemy import Engine, event

from botfarm.domain.access import Role
from botfarm.domain.configuration import (
    Applied,
    WantedFarm,
    WantedProject,
    WantedToken,
    WantedTrustRule,
    WantedUser,
)
from botfarm.domain.leases import Lease
from botfarm.domain.projects import ProjectChanges
from botfarm.errors import ChangedMeanwhileError, DatabaseUnavailableError
from support.farm import MANAGER, PASSWORD, RUNNER, Farm


def wanted(*logins: str, max_leases: int = 5, cooldown: int = 0, **labels: str) -> WantedFarm:
    users = tuple(WantedUser(login, "stage", labels=labels, password=PASSWORD) for login in logins)
    project = WantedProject("shop", ProjectChanges(cooldown=cooldown), users)
    token = WantedToken("ci", Role.RUNNER, None, None, max_leases, None)
    return WantedFarm("shop-team", (project,), (token,), prune=True)


def with_rule(file: WantedFarm, *, token_ttl: int) -> WantedFarm:
    rule = WantedTrustRule(
        name="ci",
        issuer="https://ci.test",
        claims={"repository_id": "7301"},
        role=Role.RUNNER,
        projects=None,
        envs=None,
        max_leases=None,
        max_leases_of_all=None,
        token_ttl=token_ttl,
        once=True,
    )
    return replace(file, trust_rules=(rule,))


async def apply(farm: Farm, file: WantedFarm) -> Applied:
    plan = await farm.services.configuration.plan(MANAGER, file)
    return await farm.services.configuration.apply(MANAGER, file, plan.fingerprint)


async def leased(farm: Farm) -> Lease:
    """The only user of the farm."""
    user_id = await farm.sql.fetchval("SELECT id FROM users")
    return (await farm.lock(user_id)).lease


async def write_back(farm: Farm, lease: Lease, password: str) -> None:
    user_id = lease.users[0].id
    await farm.services.lease_credentials.write_back(RUNNER, lease.id, user_id, password=password, secrets={})


async def password_of(farm: Farm, lease: Lease) -> str | None:
    return (await farm.services.leases.get(RUNNER, lease.id)).users[0].password


@asynccontextmanager
async def locked(database_url: str, statement: str) -> AsyncIterator[None]:
    """Rows that another session holds until the end of the block."""
    other = await asyncpg.connect(database_url)
    try:
        async with other.transaction():
            await other.execute(statement)
            yield
    finally:
        await other.close()


async def test_an_apply_that_waits_for_a_write_back_keeps_the_password(farm: Farm, database_url: str) -> None:
    await apply(farm, wanted("anna@shop.test"))
    lease = await leased(farm)
    # The write-back waits for the lease; the apply waits behind it for the user.
    async with locked(database_url, "SELECT FROM users FOR UPDATE"):
        writing = asyncio.create_task(write_back(farm, lease, "new"))
        await farm.until_blocked()
        applying = asyncio.create_task(apply(farm, wanted("anna@shop.test", plan="paid")))
        await farm.until_blocked(2)
    await asyncio.gather(writing, applying)
    assert await password_of(farm, lease) == "new"
    assert (await farm.seen(lease.users[0].id)).labels == {"plan": "paid"}


async def test_a_write_back_that_waits_for_an_apply_is_kept(farm: Farm, database_url: str) -> None:
    await apply(farm, wanted("anna@shop.test"))
    lease = await leased(farm)
    async with locked(database_url, "SELECT FROM tokens FOR UPDATE"):  # which an apply changes last
        applying = asyncio.create_task(apply(farm, wanted("anna@shop.test", plan="paid", max_leases=6)))
        await farm.until_blocked()
        writing = asyncio.create_task(write_back(farm, lease, "new"))
        await farm.until_blocked(2)
    await asyncio.gather(writing, applying)
    assert await password_of(farm, lease) == "new"
    assert (await farm.seen(lease.users[0].id)).labels == {"plan": "paid"}


async def test_no_apply_undoes_a_write_back(farm: Farm) -> None:
    file = wanted("anna@shop.test")
    await apply(farm, file)
    lease = await leased(farm)
    await write_back(farm, lease, "new")
    await apply(farm, file)
    await apply(farm, wanted("anna@shop.test", plan="paid"))
    assert await password_of(farm, lease) == "new"


async def test_of_two_applies_of_one_plan_the_second_changes_nothing(farm: Farm, database_url: str) -> None:
    await apply(farm, wanted("anna@shop.test"))
    file = wanted("anna@shop.test", "ben@shop.test", max_leases=6)
    plan = await farm.services.configuration.plan(MANAGER, file)
    async with locked(database_url, "SELECT FROM tokens FOR UPDATE"):
        first = asyncio.create_task(farm.services.configuration.apply(MANAGER, file, plan.fingerprint))
        await farm.until_blocked()
        second = asyncio.create_task(farm.services.configuration.apply(MANAGER, file, plan.fingerprint))
        await farm.until_blocked(2)
    assert len((await first).plan.changes) == 2
    with pytest.raises(ChangedMeanwhileError):
        await second
    assert (await farm.services.configuration.plan(MANAGER, file)).changes == ()
    assert await farm.sql.fetchval("SELECT count(*) FROM users") == 2


async def test_an_apply_is_refused_when_a_user_changes_after_the_plan_was_compared(
    farm: Farm, database_url: str
) -> None:
    await apply(farm, wanted("anna@shop.test"))
    file = wanted("anna@shop.test", plan="paid")
    async with locked(database_url, """UPDATE users SET labels = '{"by": "hand"}'"""):
        applying = asyncio.create_task(apply(farm, file))
        await farm.until_blocked()
    with pytest.raises(ChangedMeanwhileError):
        await applying
    assert await farm.sql.fetchval("SELECT labels FROM users") == '{"by": "hand"}'


async def test_an_apply_is_refused_when_somebody_else_makes_its_user_first(
    farm: Farm, database_url: str
) -> None:
    await apply(farm, wanted("anna@shop.test"))
    file = wanted("anna@shop.test", "ben@shop.test", cooldown=9)
    same = """INSERT INTO users (id, login, login_key, password, project_id, env, domain)
        SELECT gen_random_uuid(), 'ben@shop.test', 'ben@shop.test', '', project_id, env, domain FROM users"""
    async with locked(database_url, same):
        applying = asyncio.create_task(apply(farm, file))
        await farm.until_blocked()
    with pytest.raises(ChangedMeanwhileError):
        await applying
    assert await farm.sql.fetchval("SELECT cooldown FROM projects") == 0


async def test_an_apply_is_refused_when_somebody_else_deletes_its_rule_first(
    farm: Farm, database_url: str
) -> None:
    await apply(farm, with_rule(wanted("anna@shop.test"), token_ttl=60))
    file = with_rule(wanted("anna@shop.test", plan="paid"), token_ttl=90)
    async with locked(database_url, "UPDATE trust_rules SET deleted_at = clock_timestamp()"):
        applying = asyncio.create_task(apply(farm, file))
        await farm.until_blocked()
    with pytest.raises(ChangedMeanwhileError):
        await applying
    assert await farm.sql.fetchval("SELECT labels FROM users") == "{}"
    assert await farm.sql.fetchval("SELECT count(*) FROM trust_rules WHERE deleted_at IS NULL") == 0


@contextmanager
def dying_before(number: int) -> Iterator[list[str]]:
    """The connection that sends the statement of this number is lost instead, as when its process dies.

    Gives the statements, COMMIT included. Only of the services: the test's own connection is none of SQLAlchemy's.
    """
    statements: list[str] = []

    def count(connection: Any, statement: str) -> None:
        statements.append(statement)
        if len(statements) == number:
            connection.connection.driver_connection.terminate()

    def before_statement(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        count(connection, statement)

    def before_commit(connection: Any) -> None:
        count(connection, "COMMIT")

    event.listen(Engine, "before_cursor_execute", before_statement)
    event.listen(Engine, "commit", before_commit)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", before_statement)
        event.remove(Engine, "commit", before_commit)


async def content(farm: Farm) -> list[Any]:
    """All that an apply may change."""
    return [
        await farm.sql.fetch(f"SELECT * FROM {table} ORDER BY id")
        for table in ("projects", "users", "tokens", "trust_rules", "audit")
    ]


async def test_an_apply_that_dies_at_any_statement_has_changed_nothing(farm: Farm) -> None:
    await apply(farm, with_rule(wanted("anna@shop.test", "ben@shop.test"), token_ttl=60))
    changed = wanted("anna@shop.test", "carl@shop.test", plan="paid", max_leases=6, cooldown=9)
    file = with_rule(changed, token_ttl=90)
    plan = await farm.services.configuration.plan(MANAGER, file)
    assert {change.deed for change in plan.changes} == {"create", "update", "retire"}
    before, number = await content(farm), 0
    while True:
        number += 1
        with dying_before(number) as statements:
            try:
                await farm.services.configuration.apply(MANAGER, file, plan.fingerprint)
                break
            except DatabaseUnavailableError:
                assert await content(farm) == before, statements[-1]
    assert number > 12
    assert "COMMIT" in statements
    after = await content(farm)
    assert all(old != new for old, new in zip(before, after, strict=True))
    assert (await farm.services.configuration.plan(MANAGER, file)).changes == ()
