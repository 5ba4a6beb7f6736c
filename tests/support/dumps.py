"""Everything that a database holds, as text."""

import asyncio
import io
from urllib.parse import unquote, urlsplit

import asyncpg

from botfarm.process.embedded_postgres.programs import find_server_binaries


async def dump_of(url: str) -> str:
    """By pg_dump, or by hand where there is none for this server."""
    for binaries in find_server_binaries():
        parts = urlsplit(url)
        where = ["-h", parts.hostname or "", "-p", str(parts.port or 5432), "-U", parts.username or ""]
        program = binaries.folder / "pg_dump"
        if not program.exists():
            continue
        dumping = await asyncio.create_subprocess_exec(
            *(program, *where, parts.path[1:]),
            env={"PGPASSWORD": unquote(parts.password or "")},  # arguments can be seen by anybody
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        dumped, _ = await dumping.communicate()
        if dumping.returncode == 0:
            return dumped.decode()
    return await _copied(url)


async def _copied(url: str) -> str:
    connection = await asyncpg.connect(url)
    try:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        copied = io.BytesIO()
        for table in tables:
            await connection.copy_from_table(table["tablename"], output=copied)
        return copied.getvalue().decode()
    finally:
        await connection.close()
