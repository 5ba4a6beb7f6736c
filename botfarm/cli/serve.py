from botfarm.cli.errors import one_line_errors
from botfarm.event_loop import run_until_signalled
from botfarm.http_server import listen, url_of
from botfarm.logs import configure_logging, get_logger
from botfarm.runtime import require_keys
from botfarm.settings import load_settings
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

    def announce() -> None:
        logger.info("serving", url=url_of(listening))

    run_until_signalled(lambda stop: serve_api(settings, listening, stop, announce=announce))
