import asyncio
import socket

from botfarm.cli.errors import one_line_errors
from botfarm.logs import configure_logging, get_logger, lines_in_batches
from botfarm.process.event_loop import run_until_signalled
from botfarm.process.garbage_collection import spare_what_stays
from botfarm.process.http_server import listen, url_of
from botfarm.runtime.keys import require_keys
from botfarm.runtime.startup import check_connections, check_keys, check_role
from botfarm.settings import Settings, load_settings
from botfarm.web.server import serve as serve_api

logger = get_logger(__name__)


@one_line_errors()
def serve() -> None:
    """Serve the API: one process, to be scaled by replicas."""
    settings = load_settings()
    settings.required_database_url()
    require_keys(settings)
    configure_logging(settings.log_level)
    if settings.bootstrap_token is None:
        logger.warning("BOTFARM_BOOTSTRAP_TOKEN is not set: nobody can call this API")
    listening = listen(settings.host, settings.port, setting="BOTFARM_PORT")
    with lines_in_batches():
        run_until_signalled(lambda stop: _serve(settings, listening, stop))


async def _serve(settings: Settings, listening: socket.socket, stop: asyncio.Event) -> None:
    checking = asyncio.create_task(_check(settings))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({checking, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not checking.done():
        checking.cancel()
        await asyncio.wait({checking})
        return
    await serve_api(
        settings,
        listening,
        stop,
        keys_checked=checking.result(),
        announce=lambda: _announce(listening),
    )


def _announce(listening: socket.socket) -> None:
    spare_what_stays()
    logger.info("serving", url=url_of(listening))


async def _check(settings: Settings) -> bool:
    """Whether the keys could be checked. Raises SettingsError for a setting that cannot work."""
    await check_connections(settings)
    await check_role(settings)
    return await check_keys(settings)
