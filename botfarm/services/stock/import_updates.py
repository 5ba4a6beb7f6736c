"""What an import changes of users that are there already."""

import asyncio
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TypeVar
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.crypto.key_ring import KeyRing
from botfarm.db.access import audit_queries
from botfarm.db.leasing import advisory_locks
from botfarm.db.stock.import_update_queries import (
    PresentUser,
    UserUpdate,
    lock_users,
    present_users,
    update_users,
)
from botfarm.db.stock.user_queries import NewUser
from botfarm.domain.access import Principal
from botfarm.domain.credentials import SealedCredentials
from botfarm.domain.pools import Pool
from botfarm.domain.users import MAX_LABELS, LineError
from botfarm.errors import InvalidRequestError
from botfarm.services.stock.sealing import (
    changes_secrets,
    has_value,
    merge_secrets,
    open_credentials,
    seal_password,
    seal_totp_seed,
)

BATCH = 200
"""Users in memory with all that is stored of them, up to 256 KiB each."""

UNREAD = SealedCredentials("")
"""In place of credentials that are read once more, because those of 100,000 users would not fit into memory."""

Item = TypeVar("Item")
Named = dict[int, NewUser]
"""Users by the lines that name them."""


Outcome = UserUpdate | LineError | None
"""None where the user has all that its line says."""


@dataclass
class Updated:
    users: Counter[Pool] = field(default_factory=Counter)
    unchanged: int = 0
    errors: list[LineError] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        match outcome:
            case UserUpdate(user=user):
                self.users[user.pool] += 1
            case LineError():
                self.errors.append(outcome)
            case None:
                self.unchanged += 1


class ImportUpdates:
    """Changes the users that are there and differ from their lines.

    First it compares without a lock, so that a file whose users are all as it says holds nobody up. The users that
    differ are compared once more under their locks. The pools' locks come first and in one order, so that two imports
    cannot deadlock; under them an acquire that finds its users locked waits instead of finding none.
    """

    def __init__(self, session: AsyncSession, principal: Principal, key_ring: KeyRing, named: Named) -> None:
        self._session = session
        self._principal = principal
        self._key_ring = key_ring
        self._named = named
        self._lines = {_key(user): line for line, user in named.items()}

    async def run(self, *, dry_run: bool) -> Updated:
        """A dry run compares without a lock, and changes nothing."""
        compared = Updated()
        left, differing = set(self._lines), list[PresentUser]()
        for lines in _batches(self._lines.values(), BATCH):
            users = [self._named[line] for line in lines]
            for user, outcome in await self._compare(await present_users(self._session, users)):
                left.discard(_key(user))
                compared.add(outcome)
                if isinstance(outcome, UserUpdate):
                    differing.append(replace(user, sealed=UNREAD, labels={}))
        # Users that another index than that of logins refuses, or that were deleted a moment ago.
        compared.errors += [LineError(self._lines[key], "login", "user-exists") for key in left]
        if dry_run or compared.errors:
            return compared
        changed = await self._change(differing)
        changed.unchanged += compared.unchanged
        return changed

    async def _change(self, differing: list[PresentUser]) -> Updated:
        differing.sort(key=lambda user: (_pool_order(user.pool), user.id))
        for pool in dict.fromkeys(user.pool for user in differing):
            await advisory_locks.lock_pool(self._session, pool)
        changed = Updated()
        for users in _batches(differing, BATCH):
            outcomes = await self._compare(await lock_users(self._session, [user.id for user in users]))
            updates = [outcome for _, outcome in outcomes if isinstance(outcome, UserUpdate)]
            await update_users(self._session, updates)
            await self._record(updates)
            found = {user.id for user, _ in outcomes}
            for outcome in [*(outcome for _, outcome in outcomes), *self._gone(users, found)]:
                changed.add(outcome)
        return changed

    async def _compare(self, users: Collection[PresentUser]) -> list[tuple[PresentUser, Outcome]]:
        """In a thread. Leaves out users whose login or env has changed, so that no line names them any more."""

        def compared() -> list[tuple[PresentUser, Outcome]]:
            of_lines = [user for user in users if _key(user) in self._lines]
            return [(user, self._outcome(user)) for user in of_lines]

        return await asyncio.to_thread(compared)

    def _outcome(self, user: PresentUser) -> Outcome:
        line = self._lines[_key(user)]
        return _outcome(self._key_ring, line, self._named[line], user)

    def _gone(self, users: Iterable[PresentUser], found: Collection[UUID]) -> Iterator[LineError]:
        for user in users:
            if user.id not in found:
                yield LineError(self._lines[_key(user)], "login", "changed-meanwhile")

    async def _record(self, updates: Iterable[UserUpdate]) -> None:
        """One entry for each user, as after a change by hand."""
        entries = [
            (each.user.id, each.user.pool, {"import": True, **dict.fromkeys(each.changed, "changed")})
            for each in updates
        ]
        await audit_queries.record_users(self._session, self._principal, "update_user", entries)


def _outcome(key_ring: KeyRing, line: int, new: NewUser, user: PresentUser) -> Outcome:
    """What a line does not say stays: secrets and labels are merged by their names."""
    if new.pool.domain != user.pool.domain:
        return LineError(line, "domain", "other-domain")
    said = open_credentials(key_ring, new.id, new.sealed)
    sealed, changed = user.sealed, []
    if not has_value(key_ring, user.id, "password", sealed.password, said.password):
        if sealed.pending_password is not None:
            return LineError(line, "password", "rotation-pending")
        sealed = replace(sealed, password=seal_password(key_ring, user.id, said.password))
        changed.append("password")
    if said.secrets and changes_secrets(key_ring, user.id, sealed.secrets, said.secrets):
        try:
            merged = merge_secrets(key_ring, user.id, sealed.secrets, said.secrets)
        except InvalidRequestError:
            return LineError(line, "secrets", "too-large")
        sealed = replace(sealed, secrets=merged)
        changed.append("secrets")
    if said.totp_seed and not has_value(key_ring, user.id, "totp_seed", sealed.totp_seed, said.totp_seed):
        sealed = replace(sealed, totp_seed=seal_totp_seed(key_ring, user.id, said.totp_seed))
        changed.append("totp_seed")
    labels = {**user.labels, **json.loads(new.labels)}
    if len(labels) > MAX_LABELS:
        return LineError(line, "labels", "invalid")
    if labels != user.labels:
        changed.append("labels")
    return UserUpdate(user, sealed, labels, tuple(changed)) if changed else None


def _key(user: NewUser | PresentUser) -> tuple[UUID, str, str]:
    return user.pool.project_id, user.pool.env, user.login_key


def _pool_order(pool: Pool) -> tuple[UUID, str, str]:
    return pool.project_id, pool.env, pool.domain


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
