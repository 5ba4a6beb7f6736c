"""Databases for tests: one server for the session, one migrated template, a fresh copy for each test."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg

from botfarm.process.embedded_postgres.server import EmbeddedPostgres

# In memory, files are made and removed with a tenth of the processor time. ext4 passes over each inode that was freed
# in the last half minute, one by one, and every test makes and removes the 370 files of a database.
MEMORY = Path("/dev/shm")
ROOM = 2 * 1024**3
"""Bytes that must be free in memory: a cluster takes up to 300 MB, and each pytest process has one."""
# Durability is not what most tests are about; those that are start a server of their own.
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "200"}


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Reachable for the server's account too, which is not ours when the tests run as root."""
    folder = Path(tempfile.mkdtemp(prefix="botfarm-test-", dir=_quickest_place()))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _quickest_place() -> Path | None:
    """The memory, when there is room and programs may be run from there; else None: the folder for temporary files."""
    try:
        state = os.statvfs(MEMORY)
    except OSError:
        return None
    has_room = state.f_bavail * state.f_frsize >= ROOM and os.access(MEMORY, os.W_OK)
    return MEMORY if has_room and not state.f_flag & os.ST_NOEXEC else None


@contextmanager
def server_url() -> Iterator[str]:
    """The URL of a database to connect to: BOTFARM_TEST_DATABASE_URL, or an embedded server of our own."""
    given = os.environ.get("BOTFARM_TEST_DATABASE_URL")
    if given:
        with _maintained(given):
            yield given
        return
    with temporary_folder() as folder:
        server = EmbeddedPostgres(folder / "farm", options=FAST)
        try:
            url = server.start()
            with _maintained(url) as maintenance:
                maintenance.run(_hash_passwords_quickly, url)
                yield url
        finally:
            server.stop()


@contextmanager
def fresh_database(url: str, *, template: str = "template0", locale: str | None = None) -> Iterator[str]:
    name = f"test_{uuid4().hex}"
    locale_option = f" LOCALE '{locale}'" if locale else ""
    maintenance = _maintenance[url]
    maintenance.run(_create_database, f'"{name}" TEMPLATE "{template}"{locale_option}')
    try:
        yield database_of(url, name)
    finally:
        maintenance.run(_drop_database, name)


def served(url: str) -> str:
    """The owner's URL with the serving role, which `botfarm migrate` makes and grants what the farm needs."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"botfarm_app:a-password-for-tests@{host}"))


def two_roles(url: str) -> dict[str, str]:
    """The environment of a farm as it is run: one role serves, the other one owns the tables."""
    return {"BOTFARM_DATABASE_URL": served(url), "BOTFARM_OWNER_URL": url}


def database_of(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


class _Maintenance:
    """A connection that stays open. To open one takes as long as to drop a database."""

    def __init__(self, url: str) -> None:
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._connection = self._runner.run(asyncpg.connect(url))

    def run(self, do: Callable[[asyncpg.Connection, str], Coroutine[Any, Any, None]], argument: str) -> None:
        """Not for inside an event loop."""
        self._runner.run(do(self._connection, argument))

    def end(self) -> None:
        self._runner.run(self._connection.close())
        self._runner.close()


_maintenance: dict[str, _Maintenance] = {}
"""By the URL of each server that is in use."""


@contextmanager
def _maintained(url: str) -> Iterator[_Maintenance]:
    _maintenance[url] = _Maintenance(url)
    try:
        yield _maintenance[url]
    finally:
        _maintenance.pop(url).end()


async def _create_database(connection: asyncpg.Connection, name_and_options: str) -> None:
    # Without a log of each page it takes a third less processor time; earlier versions know only this way.
    copied = " STRATEGY FILE_COPY" if connection.get_server_version() >= (15,) else ""
    await connection.execute(f"CREATE DATABASE {name_and_options}{copied}")


async def _drop_database(connection: asyncpg.Connection, name: str) -> None:
    await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


async def _hash_passwords_quickly(connection: asyncpg.Connection, url: str) -> None:
    """Of each connection the thousands of rounds of a hash would be half of the processor time.

    The owner of the database makes the serving role, whose password is hashed as its own is here.
    """
    if connection.get_server_version() >= (16,):
        await connection.execute("SET scram_iterations = 1")
        await connection.execute("ALTER ROLE botfarm SET scram_iterations = 1")
        await connection.execute(f"ALTER ROLE botfarm PASSWORD '{urlsplit(url).password}'")
