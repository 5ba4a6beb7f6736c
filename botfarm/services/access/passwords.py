"""Hashes and verifies passwords with argon2id. In few threads, because each takes memory and a core."""

import asyncio
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from botfarm.errors import SlowDownError

with warnings.catch_warnings():
    # passlib's last release is older than both deprecations; the farm uses neither feature.
    for _about in ("'crypt' is deprecated", r"Accessing argon2\.__version__ is deprecated"):
        warnings.filterwarnings("ignore", _about, DeprecationWarning)
    from passlib.context import CryptContext
    from passlib.hash import argon2

    argon2.get_backend()  # loaded here, not with the first password in a thread

Answer = TypeVar("Answer")

# OWASP's minimum: 19 MiB, two passes, one lane.
MEMORY_KIB, PASSES, LANES = 19_456, 2, 1
THREADS = 2
MAX_WAITING = 20
NOBODYS = f"$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${'A' * 22}${'A' * 43}"
"""A hash that no password has (all zeros). It takes as long to verify as an operator's."""


class Passwords:
    """Every method raises SlowDownError when too many passwords wait already."""

    def __init__(self) -> None:
        self._context = CryptContext(
            schemes=["argon2"],
            argon2__type="ID",
            argon2__memory_cost=MEMORY_KIB,
            argon2__time_cost=PASSES,
            argon2__parallelism=LANES,
        )
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="passwords")
        self._in_hand = 0

    async def hash(self, password: str) -> str:
        hashed: str = await self._in_a_thread(lambda: self._context.hash(password))
        return hashed

    async def verify_and_update(self, password: str, hashed: str | None) -> tuple[bool, str | None]:
        """Whether the password fits the hash, and a new hash when the old one has other parameters.

        Without a hash the answer is no, after the same time.
        """
        right, updated = await self._in_a_thread(
            lambda: self._context.verify_and_update(password, hashed or NOBODYS)
        )
        return (True, updated) if right and hashed else (False, None)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _in_a_thread(self, work: Callable[[], Answer]) -> Answer:
        if self._in_hand >= THREADS + MAX_WAITING:
            raise SlowDownError(retry_after=1)
        self._in_hand += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._in_hand -= 1
