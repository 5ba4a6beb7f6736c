"""The credentials of a file, encrypted for users that do not exist yet."""

import asyncio
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from botfarm.crypto.key_ring import KeyRing
from botfarm.domain.configuration import WantedFarm, WantedUser
from botfarm.domain.credentials import SealedCredentials
from botfarm.services.stock.sealing import seal

IN_A_ROW = 100
"""Users between two turns of the event loop: some milliseconds of work."""


@dataclass(frozen=True, slots=True)
class Sealed:
    user_id: UUID
    """Of the user to be made, because its credentials can be decrypted for no other."""
    credentials: SealedCredentials = field(repr=False)


async def sealed_seeds(key_ring: KeyRing, wanted: WantedFarm) -> dict[str, Sealed]:
    """By the place in the file, for the users that have a password there."""
    sealed: dict[str, Sealed] = {}
    for project_number, project in enumerate(wanted.projects):
        for number, user in enumerate(project.users):
            if user.password is not None:
                place = f"projects.{project_number}.users.{number}"
                sealed[place] = _sealed(key_ring, user, user.password)
                if len(sealed) % IN_A_ROW == 0:
                    await asyncio.sleep(0)
    return sealed


def _sealed(key_ring: KeyRing, user: WantedUser, password: str) -> Sealed:
    user_id = uuid4()
    credentials = seal(key_ring, user_id, password=password, secrets=user.secrets, totp_seed=user.totp_seed)
    return Sealed(user_id, credentials)
