"""Imports many users: lines arrive one by one, and all rows are written in batches of one transaction."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping
from functools import partial
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.crypto.key_ring import KeyRing
from botfarm.db.access import audit_queries
from botfarm.db.postgres.engine import Database
from botfarm.db.stock import project_queries, user_queries
from botfarm.db.stock.user_queries import NewUser
from botfarm.domain.access import Principal, Scope
from botfarm.domain.logins import Logins, is_email, login_key
from botfarm.domain.pools import Pool
from botfarm.domain.projects import Project
from botfarm.domain.users import ImportResult, LineError, OnError, UserLine
from botfarm.errors import ImportRejectedError, SlowDownError
from botfarm.services.shared.notifier import Notifier
from botfarm.services.stock.import_updates import ImportUpdates, Updated
from botfarm.services.stock.sealing import seal

BATCH = 1_000
# Characters of credentials and labels: the driver copies a batch several times before it is sent.
BATCH_SIZE = 4_194_304
# Seconds for all batches together; one batch takes a tenth of a second.
INSERT_PATIENCE = 120.0
# Errors in one answer. A file with more has another format, and the answer would become larger than the file.
MAX_ERRORS = 10_000
# Seconds until a caller may try again that found another import in progress; most take less.
RETRY_AFTER = 10
# Lines between two turns of the event loop: some milliseconds of work.
LINES_IN_A_ROW = 100


class Importing:
    def __init__(self, database: Database, key_ring: KeyRing, notifier: Notifier) -> None:
        self._database = database
        self._key_ring = key_ring
        self._notifier = notifier
        self._is_importing = False

    async def import_users(
        self,
        principal: Principal,
        lines: AsyncIterator[UserLine | LineError],
        *,
        on_error: OnError,
        dry_run: bool = False,
    ) -> ImportResult:
        """Creates or updates all users or, unless errors are skipped, none.

        Raises ImportRejectedError, SlowDownError.

        A dry run does the same, and takes it back.

        One import at a time in each process, because its users are in memory.

        The database is asked only after the last line has arrived, so that a slow caller holds no transaction
        open. It is asked also when lines are wrong already, so that one answer names all errors.
        """
        if self._is_importing:
            raise SlowDownError("Another import is under way at this replica.", retry_after=RETRY_AFTER)
        self._is_importing = True
        try:
            return await self._import(principal, lines, on_error=on_error, dry_run=dry_run)
        finally:
            self._is_importing = False

    async def _import(
        self,
        principal: Principal,
        lines: AsyncIterator[UserLine | LineError],
        *,
        on_error: OnError,
        dry_run: bool,
    ) -> ImportResult:
        users, pools, no_emails, errors = await self._read(lines)
        async with self._database.transaction(patience=INSERT_PATIENCE) as session:
            project_ids = {pool.project_id for pool in pools}
            projects = await project_queries.lock_projects(session, project_ids, principal.scope)
            # In threads, because 100,000 users take seconds, in which other requests must be served.
            check = partial(_checked, users, no_emails, projects, principal.scope)
            batches, refused = await asyncio.to_thread(check)
            inserted: set[UUID] = set()
            for batch in batches:
                inserted |= await user_queries.insert_users(session, batch)
            errors = [*errors, *refused]
            present = await asyncio.to_thread(_present, users, inserted, errors)
            if on_error is OnError.UPDATE:
                updates = ImportUpdates(session, principal, self._key_ring, present)
                updated = await updates.run(dry_run=dry_run)
            else:
                updated = Updated(errors=[LineError(line, "login", "user-exists") for line in present])
            errors = sorted([*errors, *updated.errors], key=lambda error: error.line)
            if errors and on_error is not OnError.SKIP:
                raise _rejected(errors)
            created = Counter(user.pool for user in users.values() if user.id in inserted)
            await _record(session, principal, created, updated.users)
            if dry_run:
                await session.rollback()
        for project_id in {pool.project_id for pool in created | updated.users}:
            self._notifier.freed(project_id)
        return ImportResult(
            created=created.total(),
            updated=updated.users.total(),
            unchanged=updated.unchanged,
            skipped=len({error.line for error in errors}),
            errors=tuple(errors),
        )

    async def _read(
        self, lines: AsyncIterator[UserLine | LineError]
    ) -> tuple[dict[int, NewUser], Collection[Pool], set[int], list[LineError]]:
        """Reads the lines and encrypts the users.

        Returns users by line number, their pools, the lines whose logins are no e-mail addresses, and errors.
        """
        users: dict[int, NewUser] = {}
        no_emails: set[int] = set()
        errors: list[LineError] = []
        pools: dict[Pool, Pool] = {}  # one object for each pool, not for each user
        async for line in lines:
            if isinstance(line, LineError):
                errors.append(line)
                if len(errors) > MAX_ERRORS:
                    raise _rejected(errors)
            else:
                users[line.line] = self._encrypted(line, pools.setdefault(line.pool, line.pool))
                if not is_email(line.login):  # here, because it would keep a transaction open for seconds
                    no_emails.add(line.line)
            if (len(users) + len(errors)) % LINES_IN_A_ROW == 0:
                await asyncio.sleep(0)
        return users, pools.values(), no_emails, errors

    def _encrypted(self, line: UserLine, pool: Pool) -> NewUser:
        user_id = uuid4()
        sealed = seal(
            self._key_ring, user_id, password=line.password, secrets=line.secrets, totp_seed=line.totp_seed
        )
        return NewUser(user_id, line.login, login_key(line.login), sealed, pool, json.dumps(line.labels))


def _checked(
    users: dict[int, NewUser], no_emails: Collection[int], projects: Mapping[UUID, Project], scope: Scope
) -> tuple[list[list[NewUser]], list[LineError]]:
    """The users to insert, in batches and in the order of insertion, and the errors of the others."""
    errors: list[LineError] = []
    known: list[NewUser] = []
    lines: dict[tuple[UUID, str, str], int] = {}  # the first of each account
    for line, user in users.items():
        project = projects.get(user.pool.project_id)
        wrong = _wrong(line, user.pool, project, scope, is_email=line not in no_emails)
        if not wrong and (first := lines.setdefault(user_queries.insert_order(user), line)) != line:
            wrong = [LineError(line, "login", "duplicate", first)]
        if wrong:
            errors += wrong
        else:
            known.append(user)
    known.sort(key=user_queries.insert_order)
    return list(_batches(known)), errors


def _wrong(
    line: int, pool: Pool, project: Project | None, scope: Scope, *, is_email: bool
) -> list[LineError]:
    if project is None:
        return [LineError(line, "project_id", "no-such-project")]
    wrong = []
    if not scope.has_env(pool.env):
        wrong.append(LineError(line, "env", "forbidden"))
    else:
        wrong += [LineError(line, field, "unknown") for field in project.lacking(pool.env, pool.domain)]
    if project.policy.logins is Logins.EMAIL and not is_email:
        wrong.append(LineError(line, "login", "invalid"))
    return wrong


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


def _present(
    users: dict[int, NewUser], inserted: Collection[UUID], errors: Iterable[LineError]
) -> dict[int, NewUser]:
    """Users that were not inserted although nothing is wrong with their lines."""
    explained = {error.line for error in errors}
    return {line: user for line, user in users.items() if user.id not in inserted and line not in explained}


def _rejected(errors: list[LineError]) -> ImportRejectedError:
    named = [error.shown() for error in errors[:MAX_ERRORS]]
    if len(errors) > MAX_ERRORS:
        return ImportRejectedError(named, "Too many lines are wrong: the first ones are named.")
    return ImportRejectedError(named)


async def _record(
    session: AsyncSession, principal: Principal, created: Counter[Pool], updated: Counter[Pool]
) -> None:
    """One entry for each pool."""
    for pool in created | updated:
        await audit_queries.record(
            session,
            principal,
            "import_users",
            target="project",
            target_id=pool.project_id,
            project_id=pool.project_id,
            env=pool.env,
            details={"domain": pool.domain, "created": created[pool], "updated": updated[pool]},
        )
