"""Fills in normal forms of logins that were stored without one, and finds users that are the same account.

The previous version writes no `login_key`. A trigger fills it in for logins in ASCII, which SQL can
normalise. The migration fills in the others and, from then on, the worker.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, TextClause, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.domain.logins import login_key

PAGE = 1_000
MAX_NAMED = 20
"""Accounts that an error message names, at most."""
_START = {"project_id": UUID(int=0), "env": "", "domain": "", "id": UUID(int=0)}

_USERS = """
    SELECT id, project_id, env, domain, login FROM users
    WHERE {} AND (project_id, env, domain, id) > (:project_id, :env, :domain, :id)
    ORDER BY project_id, env, domain, id LIMIT :limit"""
NOT_ASCII = text(_USERS.format("octet_length(login) <> length(login)"))
WITHOUT_KEY = text(_USERS.format("login_key IS NULL"))

# The normal form of an ASCII login is `lower(login)`, on which the previous version has a unique index.
IN_ASCII = text("""
    SELECT u.id, u.project_id, u.env, u.login
    FROM unnest(CAST(:project_ids AS uuid[]), CAST(:envs AS text[]), CAST(:keys AS text[]))
         AS given (project_id, env, key)
    JOIN users AS u ON u.project_id = given.project_id AND u.env = given.env AND lower(u.login) = given.key
    WHERE octet_length(u.login) = length(u.login)""")

WITH_ONE_KEY = text("""
    SELECT project_id, env, login_key, array_agg(id ORDER BY id) AS ids, array_agg(login ORDER BY id) AS logins
    FROM users WHERE login_key IS NOT NULL GROUP BY project_id, env, login_key HAVING count(*) > 1""")

# Takes the lock of the pool, as `replace_credentials` does, because an acquire that finds these users locked
# then tries again. One statement, because the migration runs outside of a transaction here.
FILL_PAGE = text("""
    WITH alone AS MATERIALIZED (
        SELECT count(*) = 1 AS locked
        FROM (SELECT pg_advisory_xact_lock(hashtextextended(:pool, 0))) AS waited
    ),
    chosen AS MATERIALIZED (
        SELECT u.id, given.key
        FROM unnest(CAST(:ids AS uuid[]), CAST(:logins AS text[]), CAST(:keys AS text[]))
             AS given (id, login, key)
        JOIN users AS u ON u.id = given.id
        WHERE (SELECT locked FROM alone) AND u.login = given.login AND u.login_key IS NULL
        FOR UPDATE OF u SKIP LOCKED
    )
    UPDATE users SET login_key = chosen.key FROM chosen WHERE users.id = chosen.id""")

PAUSE = text("SELECT pg_sleep(0.1)")

# The unique index finds users without a key at once, but only within a project and env. OFFSET 0 keeps the
# planner from pulling the subquery up, and so from another plan.
SOME_WITHOUT_KEY = text("""
    SELECT u.id, u.login
    FROM projects CROSS JOIN unnest(projects.envs) AS each (env) CROSS JOIN LATERAL (
        SELECT id, login FROM users
        WHERE project_id = projects.id AND users.env = each.env AND login_key IS NULL
        OFFSET 0
    ) AS u""")

FILL = text("UPDATE users SET login_key = :key WHERE id = :id AND login = :login AND login_key IS NULL")

PROJECT_NAMES = text("SELECT id, name FROM projects WHERE id = ANY (CAST(:ids AS uuid[]))")

Account = tuple[UUID, str, str]
"""Project, env and normal form of the login."""
Spelled = tuple[UUID, str]
"""Id of a user, and its login as typed."""


def accounts_of_several(connection: Connection) -> dict[Account, list[Spelled]]:
    """Accounts that several users share, with these users, before there is a column `login_key`.

    Leaves out accounts of ASCII logins alone, because the index of the previous version keeps those unique.
    """
    users: defaultdict[Account, list[Spelled]] = defaultdict(list)
    for page in _pages(connection, NOT_ASCII):
        for row in page:
            users[row.project_id, row.env, login_key(row.login)].append((row.id, row.login))
    in_ascii = [account for account in users if account[2].isascii()]
    for start in range(0, len(in_ascii), PAGE):
        project_ids, envs, keys = zip(*in_ascii[start : start + PAGE], strict=True)
        given = {"project_ids": list(project_ids), "envs": list(envs), "keys": list(keys)}
        for row in connection.execute(IN_ASCII, given):
            users[row.project_id, row.env, login_key(row.login)].append((row.id, row.login))
    return {account: sorted(spelled) for account, spelled in users.items() if len(spelled) > 1}


def accounts_by_key(connection: Connection) -> dict[Account, list[Spelled]]:
    """Accounts that several users share by their stored normal forms, with these users."""
    rows = connection.execute(WITH_ONE_KEY)
    return {
        (row.project_id, row.env, row.login_key): list(zip(row.ids, row.logins, strict=True)) for row in rows
    }


def describe(connection: Connection, accounts: Mapping[Account, Sequence[Spelled]]) -> str:
    """Describes the first accounts, with the names of their projects and with the logins as typed."""
    first = sorted(accounts)[:MAX_NAMED]
    ids = list({project_id for project_id, _, _ in first})
    names = {row.id: row.name for row in connection.execute(PROJECT_NAMES, {"ids": ids})}
    named = []
    for project_id, env, key in first:
        users = ", ".join(f"{user_id} ({login})" for user_id, login in accounts[project_id, env, key])
        named.append(f"{key} in {env} of {names[project_id]}: {users}")
    more = len(accounts) - len(first)
    return "; ".join(named) + (f"; and {more} more" if more else "")


def fill_login_keys(connection: Connection) -> None:
    """Fills in the normal forms of all users, page by page, outside of a transaction.

    Repeats until no user is left out because it is locked.
    """
    while True:
        missed = False
        for page in _pages(connection, WITHOUT_KEY):
            for pool, users in groupby(page, key=lambda row: f"{row.project_id}/{row.env}/{row.domain}"):
                missed |= not _fill_page(connection, pool, list(users))
        if not missed:
            return
        connection.execute(PAUSE)


def _fill_page(connection: Connection, pool: str, users: Sequence[Row[Any]]) -> bool:
    """Returns False when some of the users were locked or have changed."""
    given = {
        "pool": pool,
        "ids": [user.id for user in users],
        "logins": [user.login for user in users],
        "keys": [login_key(user.login) for user in users],
    }
    return connection.execute(FILL_PAGE, given).rowcount == len(users)


def _pages(connection: Connection, statement: TextClause) -> Iterator[Sequence[Row[Any]]]:
    """Pages of users in the order of the pool index."""
    after: dict[str, object] = _START
    while rows := connection.execute(statement, {**after, "limit": PAGE}).all():
        yield rows
        after = {name: getattr(rows[-1], name) for name in _START}


async def users_without_key(session: AsyncSession) -> list[tuple[UUID, str]]:
    """Ids and logins of users without a normal form: replicas of the previous version wrote them."""
    rows = await session.execute(SOME_WITHOUT_KEY)
    return [(row.id, row.login) for row in rows]


async def fill_login_key(session: AsyncSession, user_id: UUID, login: str) -> bool:
    """Returns False when another user is the same account."""
    try:
        await session.execute(FILL, {"id": user_id, "login": login, "key": login_key(login)})
    except IntegrityError:
        return False
    return True
