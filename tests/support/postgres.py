"""Databases for tests: one server for the session, one migrated template, a fresh copy for each test."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg

from botfarm.process.embedded_postgres.server import EmbeddedPostgres

# Durability is not what most tests are about; those that are start a server of their own.
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "200"}


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Reachable for the server's account too, which is not ours when the tests run as root."""
    folder = Path(tempfile.mkdtemp(prefix="botfarm-test-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def server_url() -> Iterator[str]:
    """The URL of a database to connect to: BOTFARM_TEST_DATABASE_URL, or an embedded server of our own."""
    given = os.environ.get("BOTFARM_TEST_DATABASE_URL")
    if given:
        yield given
        return
    with temporary_folder() as folder:
        server = EmbeddedPostgres(folder / "farm", options=FAST)
        try:
            yield server.start()
        finally:
            server.stop()


@contextmanager
def fresh_database(url: str, *, template: str = "template0", locale: str | None = None) -> Iterator[str]:
    name = f"test_{uuid4().hex}"
    options = f" LOCALE '{locale}'" if locale else ""
    asyncio.run(_execute(url, f'CREATE DATABASE "{name}" TEMPLATE "{template}"{options}'))
    try:
        yield database_of(url, name)
    finally:
        asyncio.run(_execute(url, f'DROP DATABASE "{name}" WITH (FORCE)'))


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


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
