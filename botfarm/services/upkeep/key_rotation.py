"""Computes the next value of BOTFARM_ENCRYPTION_KEYS when keys are rotated: see docs/keys.md."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from botfarm.crypto.key_ring import HOW_TO_MAKE_A_KEY, KeyRing, KeyRingError, generate_key, ring_entries
from botfarm.settings import SettingsError


class Step(StrEnum):
    ADDED = "added"
    """The key is new and last in the ring, where it decrypts only."""
    MOVED = "moved"
    """The key was moved to the front, where it encrypts."""
    IN_PLACE = "in-place"
    """The key was first already; nothing changes."""
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class NextRing:
    encryption_keys: str = field(repr=False)
    key_id: str
    step: Step
    others: tuple[str, ...]
    """The other keys of the ring, in its order."""

    @property
    def next_command(self) -> str | None:
        """The command to run when every replica has this ring."""
        match self.step:
            case Step.ADDED:
                return f"botfarm keys rotate --id {self.key_id}"
            case Step.MOVED | Step.IN_PLACE:
                return "botfarm keys reencrypt"
            case Step.DROPPED:
                return None


def rotate_ring(ring: str, key_id: str | None) -> NextRing:
    """Adds the key where there is none of this id, else moves it to the front. Raises SettingsError."""
    keys = _parse(ring)
    wanted = _next_id(keys) if key_id is None else key_id
    if wanted not in keys:
        return _next_ring({**keys, wanted: _new_key(wanted)}, wanted, Step.ADDED)
    step = Step.IN_PLACE if wanted == next(iter(keys)) else Step.MOVED
    return _next_ring({wanted: keys[wanted], **keys}, wanted, step)


def without_key(ring: str, key_id: str) -> NextRing:
    """Raises SettingsError when the ring has no such key, or the key encrypts."""
    keys = _parse(ring)
    if key_id not in keys:
        raise SettingsError(f"the ring has no such key, only {', '.join(keys)}")
    if key_id == next(iter(keys)):
        raise SettingsError(
            f"{key_id} is the key that encrypts: "
            "give that to another one first, `botfarm keys rotate --id ...`"
        )
    del keys[key_id]
    return _next_ring(keys, key_id, Step.DROPPED)


def _next_ring(keys: Mapping[str, str], key_id: str, step: Step) -> NextRing:
    return NextRing(",".join(keys.values()), key_id, step, tuple(each for each in keys if each != key_id))


def _parse(ring: str) -> dict[str, str]:
    """The entries by their ids. Raises SettingsError when the ring is empty or cannot be used."""
    try:
        ids = KeyRing.parse(ring).key_ids
    except KeyRingError as error:
        raise SettingsError(f"BOTFARM_ENCRYPTION_KEYS: {error}") from None
    if not ids:
        raise SettingsError(f"BOTFARM_ENCRYPTION_KEYS is not set: {HOW_TO_MAKE_A_KEY}")
    return dict(zip(ids, ring_entries(ring), strict=True))


def _new_key(key_id: str) -> str:
    try:
        return generate_key(key_id)
    except KeyRingError as error:
        raise SettingsError(f"--id: {error}") from None


def _next_id(keys: Mapping[str, str]) -> str:
    """`k<N>` with the number after the highest one, so that no id is given twice."""
    numbers = [int(found[1]) for found in (re.fullmatch(r"k(\d{1,9})", each) for each in keys) if found]
    return f"k{max(numbers, default=0) + 1}"
