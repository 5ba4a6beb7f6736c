"""`botfarm dev`: the whole farm in one process on one machine, with a PostgreSQL server of its own."""

import asyncio
import os
import secrets
import shlex
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import typer

from botfarm.cli.demo import add_to
from botfarm.cli.errors import one_line_errors
from botfarm.cli.secret_files import write_secret
from botfarm.crypto.key_ring import generate_key
from botfarm.domain.access import EVERYTHING, Role
from botfarm.logs import configure_logging
from botfarm.process.embedded_postgres.server import EmbeddedPostgres
from botfarm.process.event_loop import run_until_signalled
from botfarm.process.http_server import listen, url_of
from botfarm.runtime.services import open_services
from botfarm.runtime.startup import check_keys, migrate
from botfarm.settings import Settings, SettingsError, is_loopback, load_settings
from botfarm.web.server import serve
from workers.scheduler import work

FIRST_OPERATOR = "admin"
_COMMAND = Path(sys.argv[0])
_URL_FILE, _OWNER_URL_FILE = "database-url", "owner-url"
_SERVING_ROLE, _SERVING_PASSWORD_FILE = "botfarm_app", "database-app-password"


@one_line_errors()
def dev() -> None:
    """Run everything here: PostgreSQL, migrations, demo data, API and worker; Ctrl-C ends it."""
    settings = load_settings()
    configure_logging(settings.log_level)
    listening = listen(settings.host, settings.port, setting="BOTFARM_PORT")
    with _ended_by_signals(), _database(settings) as urls:
        complete = load_settings(
            **urls,
            encryption_keys=settings.encryption_keys.get_secret_value() or _kept(settings, "keys", _new_key),
            bootstrap_token=settings.bootstrap_token or _kept(settings, "token", _new_token),
            cookie_insecure=is_loopback(settings.host),
        )
        run_until_signalled(lambda stop: _run(complete, listening, stop))
    typer.echo("botfarm has stopped.")


async def _run(settings: Settings, listening: socket.socket, stop: asyncio.Event) -> None:
    await migrate(settings)
    checked = await _check_keys(settings)
    await add_to(settings)
    operator = await _first_operator(settings)
    if stop.is_set():
        return
    working = asyncio.create_task(work(settings, stop))
    try:
        await serve(
            settings,
            listening,
            stop,
            keys_checked=checked,
            announce=lambda: _greet(settings, url_of(listening), operator),
        )
    finally:
        stop.set()
        await working


async def _check_keys(settings: Settings) -> bool:
    try:
        return await check_keys(settings)
    except SettingsError as error:
        raise SettingsError(
            f"{error} (while that is not set, it is read from {settings.data_dir / 'keys'})"
        ) from None


async def _first_operator(settings: Settings) -> str:
    """Describes the operators. When there is none, adds `admin` with a password that is not stored."""
    async with open_services(settings, "operators", in_background=True) as services:
        names = [operator.name for operator in await services.operators.list()]
        if not names:
            password = secrets.token_urlsafe(15)
            await services.operators.add(FIRST_OPERATOR, password, Role.ADMIN, EVERYTHING)
            return f"{FIRST_OPERATOR}, password {password} (shown only now)"
    if FIRST_OPERATOR not in names:
        return ", ".join(names)
    command = f"{_with_database(settings)}{_COMMAND} operators set-password {FIRST_OPERATOR}"
    return f"{FIRST_OPERATOR}; a new password: {command}"


def _with_database(settings: Settings) -> str:
    """The database URL for a shell, read from its file, because the terminal must not show its password."""
    path = settings.data_dir / _URL_FILE
    ours = path.exists() and path.read_text().strip() == settings.required_database_url()
    return f'BOTFARM_DATABASE_URL="$(cat {shlex.quote(str(path))})" ' if ours else ""


def _greet(settings: Settings, url: str, operator: str) -> None:
    given = os.environ.get("BOTFARM_BOOTSTRAP_TOKEN")
    token = "$BOTFARM_BOOTSTRAP_TOKEN" if given else _kept(settings, "token", _new_token)  # not ours to show
    headers = f"""-H "Authorization: Bearer {token}" -H 'Content-Type: application/json'"""
    typer.echo(f"""
botfarm is running: {url}

  page      {url}/ui
  sign in   {operator}
  API       {url}/docs
  token     {token}

Lease a user of the demo project, with curl or from the command line:

  curl -s -X POST {url}/api/v1/leases {headers} -d '{{"project": "shop", "env": "stage"}}'

  export BOTFARM_URL={url} BOTFARM_TOKEN={token}
  {_COMMAND} leases acquire --project shop --env stage

Ctrl-C stops everything; the data stays in {settings.data_dir}.
""")


@contextmanager
def _database(settings: Settings) -> Iterator[dict[str, str]]:
    """Runs a PostgreSQL server, unless a URL is set. Gives the URLs of its serving role and of its owner."""
    if settings.database_url is not None:
        yield {}
        return
    typer.echo(f"Starting PostgreSQL in {settings.data_dir} ...")
    server = EmbeddedPostgres(settings.data_dir)
    try:
        owner_url = server.start()
        password = _kept(settings, _SERVING_PASSWORD_FILE, _new_password)
        url = urlsplit(owner_url)
        serving = url._replace(netloc=f"{_SERVING_ROLE}:{password}@{url.hostname}:{url.port}").geturl()
        # For the server's other commands.
        write_secret(settings.data_dir / _URL_FILE, serving)
        write_secret(settings.data_dir / _OWNER_URL_FILE, owner_url)
        yield {"database_url": serving, "owner_url": owner_url}
    finally:
        server.stop()


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Ends the process at a closed terminal, as at SIGTERM, and at Ctrl-C, without a traceback.

    Works before the event loop runs, too.
    """
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
        signal.signal(signal.SIGHUP, lambda *_: sys.exit(128 + signal.SIGHUP))
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None


def _kept(settings: Settings, name: str, make: Callable[[], str]) -> str:
    """The content of a file in the data folder. Makes the file on first use, readable only for its owner."""
    path = settings.data_dir / name
    if not path.exists():
        settings.data_dir.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        write_secret(path, make())
    return Path(path).read_text().strip()


def _new_key() -> str:
    return generate_key("dev")


def _new_password() -> str:
    return secrets.token_urlsafe(32)


def _new_token() -> str:
    return f"dev_{secrets.token_urlsafe(32)}"
