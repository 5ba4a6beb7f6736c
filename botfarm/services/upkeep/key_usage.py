"""Which keys encrypted the stored values, and whether the ring of this process fits them."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from botfarm import metrics
from botfarm.crypto.key_ring import KeyRing, KeyRingError, key_id_of
from botfarm.db.postgres.engine import BACKGROUND_PATIENCE, Database
from botfarm.db.upkeep import key_queries
from botfarm.db.upkeep.key_queries import StoredUser
from botfarm.settings import SettingsError

SAMPLES = 5
"""Users that are read for each key. It is right if it decrypts one value, because a row may be damaged."""


class KeyState(StrEnum):
    ENCRYPTS = "encrypts"
    DECRYPTS = "decrypts"
    MISSING = "missing"
    """Values are stored under the key, and the ring lacks it."""
    WRONG = "wrong"
    """The ring has another key of the same id, which decrypts none of the values."""


@dataclass(frozen=True, slots=True)
class KeyUse:
    key_id: str
    is_active: bool
    state: KeyState
    values: int


class KeyUsage:
    def __init__(self, database: Database, key_ring: KeyRing) -> None:
        self._database = database
        self._key_ring = key_ring

    def show_active(self) -> None:
        metrics.encryption_key_active.labels(self._key_ring.active_key_id).set(1)

    def missed(self) -> bool:
        """Whether a stored value was under a key that the ring lacks, since `forget_missed`."""
        return bool(self._key_ring.missed)

    def forget_missed(self) -> None:
        self._key_ring.missed.clear()

    async def uses(self) -> list[KeyUse]:
        """The keys of the ring in its order, then missing keys.

        One scan of the users, and samples for each key.
        """
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

        A wrong key that is not the first does no harm, because its users can be given new credentials while
        the server runs.
        """
        uses = await self.uses()
        return what_is_wrong(use for use in uses if use.is_active or use.state is KeyState.MISSING)

    async def require_unused(self, key_id: str) -> None:
        """Raises SettingsError while values are stored under this key."""
        for use in await self.uses():
            if use.key_id == key_id and use.values:
                raise SettingsError(
                    f"{key_id} is still in use (stored values under it: {use.values}): "
                    "run `botfarm keys reencrypt` first"
                )

    def _state(self, key_id: str, samples: list[StoredUser]) -> KeyState:
        if key_id not in self._key_ring.key_ids:
            return KeyState.MISSING
        if samples and not any(self._opens(key_id, user) for user in samples):
            return KeyState.WRONG
        return KeyState.ENCRYPTS if key_id == self._key_ring.active_key_id else KeyState.DECRYPTS

    def _opens(self, key_id: str, user: StoredUser) -> bool:
        for name, stored in stored_values(user):
            if key_id_of(stored) == key_id:
                try:
                    self._key_ring.decrypt(stored, row_id=user.id, field=name)
                except KeyRingError:
                    continue
                return True
        return False


def what_is_wrong(uses: Iterable[KeyUse]) -> str | None:
    """One line that names missing or wrong keys and the way out, or None."""
    reasons = []
    for use in uses:
        if use.state is KeyState.MISSING:
            reasons.append(
                f"BOTFARM_ENCRYPTION_KEYS lacks the key {use.key_id} (stored values under it: {use.values}): "
                "put it back, after the first; if it is lost, see docs/keys.md"
            )
        if use.state is KeyState.WRONG:
            reasons.append(
                f"the key {use.key_id} of BOTFARM_ENCRYPTION_KEYS does not decrypt "
                f"what is under {use.key_id} (stored values: {use.values}): "
                "put back the one that does; if it is lost, see docs/keys.md"
            )
    return "; ".join(reasons) or None


def stored_values(user: StoredUser) -> list[tuple[str, str]]:
    """The fields that have a value, with the names to which encryption binds the values."""
    sealed = user.sealed
    fields = (
        ("password", sealed.password),
        ("secrets", sealed.secrets),
        ("totp_seed", sealed.totp_seed),
        ("pending_password", sealed.pending_password),
    )
    return [(name, stored) for name, stored in fields if stored is not None]
