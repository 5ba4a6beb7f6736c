"""The ring and what is stored under it: whether they fit, and how everything gets under the key that encrypts now."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import groupby, islice
from uuid import UUID

from botfarm import metrics
from botfarm.crypto.credentials import HOW_TO_MAKE_A_KEY, KeyRing, KeyRingError, key_id_of
from botfarm.db.access import audit_queries
from botfarm.db.leasing import advisory_locks
from botfarm.db.postgres.engine import BACKGROUND_PATIENCE, Database
from botfarm.db.upkeep import key_queries
from botfarm.db.upkeep.key_queries import StoredUser
from botfarm.domain.access import THIS_MACHINE
from botfarm.domain.credentials import SealedCredentials
from botfarm.domain.pools import Pool
from botfarm.settings import SettingsError

# A key is the right one when it decrypts one of so many values: a single row may have been tampered with.
SAMPLES = 5
PAGE = 500
# Users that one transaction locks: for some milliseconds, which is what an acquire of their pool may wait.
BATCH = 100
# Who was locked or changed meanwhile is tried again; what locks a user takes milliseconds.
TRIES, PAUSE = 10, 0.05


class KeyState(StrEnum):
    ENCRYPTS = "encrypts"
    DECRYPTS = "decrypts"
    MISSING = "missing"
    """Not in the ring, and values are stored under it."""
    WRONG = "wrong"
    """In the ring, but it decrypts none of the values under it: another key of the same id."""


@dataclass(frozen=True, slots=True)
class KeyUse:
    key_id: str
    is_active: bool
    state: KeyState
    values: int


@dataclass(slots=True)
class Reencrypted:
    """Counts of one run, which grow while it lasts."""

    key_id: str
    """That of the key everything is to be under."""
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
    """Keys of the ring that nothing is under at the end."""


@dataclass(frozen=True, slots=True)
class _Renewal:
    user: StoredUser
    sealed: SealedCredentials
    values: int
    unreadable: list[str]


class Keys:
    def __init__(self, database: Database, key_ring: KeyRing) -> None:
        self._database = database
        self._key_ring = key_ring

    def show_active(self) -> None:
        metrics.encryption_key_active.labels(self._key_ring.active_key_id).set(1)

    def missed(self) -> bool:
        """Whether a stored value was to be decrypted under a key that the ring lacks, since `forget_missed`."""
        return bool(self._key_ring.missed)

    def forget_missed(self) -> None:
        self._key_ring.missed.clear()

    async def uses(self) -> list[KeyUse]:
        """The keys of the ring in its order, then those that are missing. One scan of the users, and a bit."""
        ring = self._key_ring.key_ids
        async with self._database.transaction(patience=BACKGROUND_PATIENCE) as session:
            await key_queries.be_patient(session, seconds=BACKGROUND_PATIENCE)
            values = await key_queries.encrypted_values(session)
            samples = {
                key_id: await key_queries.some_users_under(session, key_id, limit=SAMPLES)
                for key_id in values
                if key_id in ring
            }
        values.pop("", None)
        return [
            KeyUse(
                key_id,
                key_id == self._key_ring.active_key_id,
                self._state(key_id, samples.get(key_id, [])),
                values.get(key_id, 0),
            )
            for key_id in (*ring, *sorted(values.keys() - ring))
        ]

    async def why_unusable(self) -> str | None:
        """Why a server must not run with this ring, and the way out.

        A key that is wrong and not the first does no harm: its users get new credentials from a server that runs.
        """
        uses = await self.uses()
        return what_is_wrong(use for use in uses if use.is_active or use.state is KeyState.MISSING)

    async def reencrypt(self, report: Callable[[Reencrypted], None]) -> Reencrypted:
        """Puts every value under the first key of the ring, while the farm is in use; `report` after each page.

        May be stopped at any moment and run again, also beside another one. Raises SettingsError.
        """
        if self._key_ring.active_key_id is None:
            raise SettingsError(f"BOTFARM_ENCRYPTION_KEYS is not set: {HOW_TO_MAKE_A_KEY}")
        uses = await self.uses()
        if uses[0].state is KeyState.WRONG:
            raise SettingsError(what_is_wrong(uses[:1]) or "")
        others = [use for use in uses[1:] if use.state is not KeyState.MISSING]
        done = Reencrypted(uses[0].key_id, to_do=sum(use.values for use in others))
        after: StoredUser | None = None
        while page := await self._page(after):
            await self._reencrypt_page(page, done)
            report(done)
            after = page[-1]
        uses = await self.uses()
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
        """Under the lock of the pool: an acquire that finds users locked by this looks again when it is over."""
        if not renewals:
            return set()
        changes = [(each.user, each.sealed) for each in renewals]
        async with self._database.transaction() as session:
            await advisory_locks.lock_pool(session, pool)
            return await key_queries.replace_credentials(session, pool, changes)

    def _renew(self, user: StoredUser) -> _Renewal:
        """Done before anything is locked."""
        renewed: dict[str, str] = {}
        unreadable = []
        for name, stored in _values(user):
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

    async def require_unused(self, key_id: str) -> None:
        """Raises SettingsError while values are stored under this key."""
        for use in await self.uses():
            if use.key_id == key_id and use.values:
                raise SettingsError(
                    f"{key_id} is still in use (stored values under it: {use.values}): run `botfarm keys reencrypt` first"
                )

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

    def _state(self, key_id: str, samples: list[StoredUser]) -> KeyState:
        if key_id not in self._key_ring.key_ids:
            return KeyState.MISSING
        if samples and not any(self._opens(key_id, user) for user in samples):
            return KeyState.WRONG
        return KeyState.ENCRYPTS if key_id == self._key_ring.active_key_id else KeyState.DECRYPTS

    def _opens(self, key_id: str, user: StoredUser) -> bool:
        for name, stored in _values(user):
            if key_id_of(stored) == key_id:
                try:
                    self._key_ring.decrypt(stored, row_id=user.id, field=name)
                except KeyRingError:
                    continue
                return True
        return False


def what_is_wrong(uses: Iterable[KeyUse]) -> str | None:
    """One line that names the keys and the way out; None when nothing is."""
    reasons = []
    for use in uses:
        if use.state is KeyState.MISSING:
            reasons.append(
                f"BOTFARM_ENCRYPTION_KEYS lacks the key {use.key_id} (stored values under it: {use.values}): put it back, "
                "after the first; if it is lost, see docs/keys.md"
            )
        if use.state is KeyState.WRONG:
            reasons.append(
                f"the key {use.key_id} of BOTFARM_ENCRYPTION_KEYS does not decrypt what is under {use.key_id} "
                f"(stored values: {use.values}): put back the one that does; if it is lost, see docs/keys.md"
            )
    return "; ".join(reasons) or None


def _values(user: StoredUser) -> list[tuple[str, str]]:
    """The fields that have a value, by the names that their values are bound to."""
    sealed = user.sealed
    fields = (("password", sealed.password), ("secrets", sealed.secrets), ("totp_seed", sealed.totp_seed))
    return [(name, stored) for name, stored in fields if stored is not None]


def _batches(renewals: Iterable[_Renewal]) -> Iterator[tuple[Pool, list[_Renewal]]]:
    """Each of one pool and no larger than one transaction may be."""
    for pool, users in groupby(renewals, key=lambda renewal: renewal.user.pool):
        while batch := list(islice(users, BATCH)):
            yield pool, batch
