"""Many users at once: lines come in one by one, rows go out in batches of one transaction."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import asdict
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.access import Principal, Scope
from botfarm.credentials import KeyRing
from botfarm.db import audit_queries, project_queries, user_queries
from botfarm.db.engine import Database
from botfarm.db.user_queries import NewUser
from botfarm.domain import ImportResult, LineError, Pool, UserLine
from botfarm.errors import ImportRejectedError, SlowDownError
from botfarm.services.notifier import Notifier
from botfarm.services.user_credentials import seal

BATCH = 1_000
# Characters of credentials and labels: the driver copies a batch several times before it is sent.
BATCH_SIZE = 4_194_304
# All batches together; one batch takes a tenth of a second.
INSERT_PATIENCE = 120.0
# A file with more is of another format: naming each line would make the answer larger than the file.
MAX_ERRORS = 10_000
# Seconds until a caller that found another import under way may try again; most take less.
RETRY_AFTER = 10
# After so many lines other requests have their turn: some milliseconds of work.
LINES_IN_A_ROW = 100


class Importing:
    def __init__(self, database: Database, key_ring: KeyRing, notifier: Notifier) -> None:
        self._database = database
        self._key_ring = key_ring
        self._notifier = notifier
        self._is_importing = False

    async def import_users(
        self, principal: Principal, lines: AsyncIterator[UserLine | LineError], *, skip_errors: bool
    ) -> ImportResult:
        """Creates all of the users or, unless errors are skipped, none. Raises ImportRejectedError, SlowDownError.

        One at a time in each process, because the users of an import are in memory.

        The database is asked only after the last line has come: a slow caller holds no transaction open. It is asked
        too when lines are wrong already, so that one answer names everything there is to mend.
        """
        if self._is_importing:
            raise SlowDownError("Another import is under way at this replica.", retry_after=RETRY_AFTER)
        self._is_importing = True
        try:
            return await self._import(principal, lines, skip_errors=skip_errors)
        finally:
            self._is_importing = False

    async def _import(
        self, principal: Principal, lines: AsyncIterator[UserLine | LineError], *, skip_errors: bool
    ) -> ImportResult:
        users, errors = await self._read(lines)
        async with self._database.transaction(patience=INSERT_PATIENCE) as session:
            refused = await _insert(session, users, principal.scope)
            errors = sorted([*errors, *refused], key=lambda error: error.line)
            if errors and not skip_errors:
                raise ImportRejectedError([asdict(error) for error in errors])
            await _record(session, principal, users, refused)
        for project_id in {user.pool.project_id for user in users.values()}:
            self._notifier.freed(project_id)
        skipped = len({error.line for error in errors})
        return ImportResult(created=len(users) - len(refused), skipped=skipped, errors=tuple(errors))

    async def _read(
        self, lines: AsyncIterator[UserLine | LineError]
    ) -> tuple[dict[int, NewUser], list[LineError]]:
        """The users by their lines, encrypted as they come."""
        users: dict[int, NewUser] = {}
        errors: list[LineError] = []
        pools: dict[Pool, Pool] = {}  # one object for each, not one for each user
        async for line in lines:
            if isinstance(line, LineError):
                errors.append(line)
                if len(errors) > MAX_ERRORS:
                    raise ImportRejectedError(
                        [asdict(error) for error in errors],
                        "Too many lines are wrong: the first ones are named.",
                    )
            else:
                users[line.line] = self._encrypted(line, pools.setdefault(line.pool, line.pool))
            if (len(users) + len(errors)) % LINES_IN_A_ROW == 0:
                await asyncio.sleep(0)
        return users, errors

    def _encrypted(self, line: UserLine, pool: Pool) -> NewUser:
        user_id = uuid4()
        sealed = seal(
            self._key_ring, user_id, password=line.password, secrets=line.secrets, totp_seed=line.totp_seed
        )
        return NewUser(user_id, line.login, sealed, pool, json.dumps(line.labels))


async def _insert(session: AsyncSession, users: dict[int, NewUser], scope: Scope) -> list[LineError]:
    """Inserts those that can be; returns why the others cannot."""
    projects = await project_queries.existing_projects(
        session, {user.pool.project_id for user in users.values()}, scope
    )
    errors: list[LineError] = []
    known: dict[int, NewUser] = {}
    for line, user in users.items():
        if user.pool.project_id not in projects:
            errors.append(LineError(line, "project_id", "no-such-project"))
        elif not scope.has_env(user.pool.env):
            errors.append(LineError(line, "env", "forbidden"))
        else:
            known[line] = user
    inserted: set[UUID] = set()
    in_order = sorted(known.values(), key=user_queries.insert_order)
    for batch in _batches(in_order):
        inserted |= await user_queries.insert_users(session, batch)
    return errors + [
        LineError(line, "login", "user-exists") for line, user in known.items() if user.id not in inserted
    ]


def _batches(users: Iterable[NewUser]) -> Iterator[list[NewUser]]:
    batch: list[NewUser] = []
    size = 0
    for user in users:
        batch.append(user)
        size += len(user.sealed.password) + len(user.sealed.secrets or "") + len(user.labels)
        if len(batch) >= BATCH or size >= BATCH_SIZE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


async def _record(
    session: AsyncSession, principal: Principal, users: dict[int, NewUser], refused: list[LineError]
) -> None:
    """One entry for each pool."""
    lines = {error.line for error in refused}
    created = Counter(user.pool for line, user in users.items() if line not in lines)
    for pool, count in created.items():
        await audit_queries.record(
            session,
            principal,
            "import_users",
            target="project",
            target_id=pool.project_id,
            project_id=pool.project_id,
            env=pool.env,
            details={"domain": pool.domain, "created": count},
        )
