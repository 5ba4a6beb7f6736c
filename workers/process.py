import asyncio

from botfarm.logs import configure_logging, get_logger, lines_in_batches
from botfarm.process.event_loop import run_until_signalled
from botfarm.process.http_server import listen, url_of
from botfarm.runtime.startup import check_connections, check_role
from botfarm.settings import load_settings
from workers.scheduler import work_with_probes

logger = get_logger(__name__)


def main() -> None:
    """Runs one worker until SIGINT or SIGTERM. Raises SettingsError when the settings cannot work."""
    settings = load_settings()
    settings.required_database_url()
    configure_logging(settings.log_level)
    listening = listen(settings.worker_host, settings.worker_port, setting="BOTFARM_WORKER_PORT")

    def announce() -> None:
        logger.info("working", probes=url_of(listening))

    async def run(stop: asyncio.Event) -> None:
        await check_connections(settings)
        await check_role(settings)
        await work_with_probes(settings, listening, stop, announce=announce)

    with lines_in_batches():
        run_until_signalled(run)
