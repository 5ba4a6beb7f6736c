"""Encrypts every stored value with the first key of the ring, while the farm is in use."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, islice
from uuid import UUID

from botfarm.crypto.key_ring import HOW_TO_MAKE_A_KEY, KeyRing, KeyRingError, key_id_of
from botfarm.db.access import audit_queries
from botfarm.db.leasing import advisory_locks
from botfarm.db.postgres.engine import Database
from botfarm.db.upkeep import key_queries
from botfarm.db.upkeep.key_queries import StoredUser
from botfarm.domain.access import THIS_MACHINE
from botfarm.domain.credentials import SealedCredentials
from botfarm.domain.pools import Pool
from botfarm.services.upkeep.key_usage import KeyState, KeyUsage, stored_values, what_is_wrong
from botfarm.settings import SettingsError

PAGE = 500
"""Users that are read at a time."""
BATCH = 100
"""Users that one transaction locks: for some milliseconds, which an acquire of their pool may wait."""
# A user that was locked or changed meanwhile is tried again. Whatever locks a user takes milliseconds.
TRIES, PAUSE = 10, 0.05


@dataclass(slots=True)
class Reencrypted:
    """Counts of a run, which grow while it lasts."""

    key_id: str
    """Id of the key that encrypts everything in the end."""
    to_do: int
    """Values under other keys of the ring when it began."""
    users: int = 0
    values: int = 0
    unreadable: dict[UUID, list[str]] = field(default_factory=dict)
    """Users with values that their own key does not decrypt, and the names of those fields."""
    missing: Mapping[str, int] = field(default_factory=dict)
    """Values at the end by keys that the ring lacks."""
    left: Mapping[str, int] = field(default_factory=dict)
    """Values at the end by other keys of the ring."""
    unused: tuple[str, ...] = ()
    """Keys of the ring that encrypt no value at the end."""


@dataclass(frozen=True, slots=True)
class _Renewal:
    user: StoredUser
    sealed: SealedCredentials
    values: int
    unreadable: list[str]


class Reencryption:
    def __init__(self, database: Database, key_ring: KeyRing, key_usage: KeyUsage) -> None:
        self._database = database
        self._key_ring = key_ring
        self._key_usage = key_usage

    async def run(self, report: Callable[[Reencrypted], None]) -> Reencrypted:
        """Encrypts every value with the first key of the ring, while the farm is in use.

        Calls `report` after each page.

        May be stopped at any moment and run again, also beside another run. Raises SettingsError when the
        first key is missing or wrong.
        """
        if self._key_ring.active_key_id is None:
            raise SettingsError(f"BOTFARM_ENCRYPTION_KEYS is not set: {HOW_TO_MAKE_A_KEY}")
        uses = await self._key_usage.uses()
        if uses[0].state is KeyState.WRONG:
            raise SettingsError(what_is_wrong(uses[:1]) or "")
        others = [use for use in uses[1:] if use.state is not KeyState.MISSING]
        done = Reencrypted(uses[0].key_id, to_do=sum(use.values for use in others))
        after: StoredUser | None = None
        while page := await self._page(after):
            await self._reencrypt_page(page, done)
            report(done)
            after = page[-1]
        uses = await self._key_usage.uses()
        done.missing = {use.key_id: use.values for use in uses if use.state is KeyState.MISSING}
        others = [use for use in uses if not use.is_active and use.key_id not in done.missing]
        done.left = {use.key_id: use.values for use in others if use.values}
        done.unused = tuple(use.key_id for use in others if not use.values)
        await self._record(done)
        return done

    async def _page(self, after: StoredUser | None) -> list[StoredUser]:
        async with self._database.autocommit() as session:
            return await key_queries.page_of_users(session, after=after, limit=PAGE)

    async def _reencrypt_page(self, page: list[StoredUser], done: Reencrypted) -> None:
        users = page
        for _ in range(TRIES):
            missed: list[UUID] = []
            for pool, batch in _batches([self._renew(user) for user in users]):
                replaced = await self._replace(pool, [each for each in batch if each.values])
                for renewal in batch:
                    if renewal.values and renewal.user.id not in replaced:
                        missed.append(renewal.user.id)
                        continue
                    done.users += bool(renewal.values)
                    done.values += renewal.values
                    if renewal.unreadable:
                        done.unreadable[renewal.user.id] = renewal.unreadable
            if not missed:
                return
            await asyncio.sleep(PAUSE)
            async with self._database.autocommit() as session:
                users = await key_queries.users_by_id(session, missed)

    async def _replace(self, pool: Pool, renewals: Sequence[_Renewal]) -> set[UUID]:
        """Writes under the lock of the pool.

        An acquire that finds users locked by this tries again when the lock is free.
        """
        if not renewals:
            return set()
        changes = [(each.user, each.sealed) for each in renewals]
        async with self._database.transaction() as session:
            await advisory_locks.lock_pool(session, pool)
            return await key_queries.replace_credentials(session, pool, changes)

    def _renew(self, user: StoredUser) -> _Renewal:
        """Encrypts a user's values. Before any lock is taken."""
        renewed: dict[str, str] = {}
        unreadable = []
        for name, stored in stored_values(user):
            key_id = key_id_of(stored)
            if key_id == self._key_ring.active_key_id or (key_id and key_id not in self._key_ring.key_ids):
                continue
            try:
                clear = self._key_ring.decrypt(stored, row_id=user.id, field=name)
            except KeyRingError:
                unreadable.append(name)
                continue
            renewed[name] = self._key_ring.encrypt(clear, row_id=user.id, field=name)
        return _Renewal(user, replace(user.sealed, **renewed), len(renewed), unreadable)

    async def _record(self, done: Reencrypted) -> None:
        details = {
            "users": done.users,
            "values": done.values,
            "unreadable": len(done.unreadable),
            "missing": dict(done.missing),
            "left": dict(done.left),
        }
        async with self._database.transaction() as session:
            await audit_queries.record(
                session, THIS_MACHINE, "reencrypt", target="key", target_id=done.key_id, details=details
            )


def _batches(renewals: Iterable[_Renewal]) -> Iterator[tuple[Pool, list[_Renewal]]]:
    """Batches of one pool each, of at most `BATCH` users."""
    for pool, users in groupby(renewals, key=lambda renewal: renewal.user.pool):
        while batch := list(islice(users, BATCH)):
            yield pool, batch
