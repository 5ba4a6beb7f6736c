import asyncio
from typing import Annotated

from botfarm.cli.errors import one_line_errors
from botfarm.logs import configure_logging
from botfarm.runtime.services import open_services
from botfarm.runtime.startup import migrate
from botfarm.services.upkeep.after_restore import Restored
from botfarm.settings import Settings, load_settings
from botfarm_client.commands.shared.options import duration_option
from botfarm_client.commands.shared.output import counted, say
from botfarm_client.shared.durations import format_moment


@one_line_errors()
def after_restore(
    *,
    rest: Annotated[
        int | None,
        duration_option(
            "--rest",
            "How long every user rests; 0s when no test run is left. "
            "Default: its project's max_ttl and lock_delay, or its cooldown if longer.",
        ),
    ] = None,
) -> None:
    """Make a database restored from a backup safe: migrate it, end its leases, let all users rest."""
    settings = load_settings()
    configure_logging(settings.log_level)
    done = asyncio.run(_work(settings, rest))
    say(f"Ended {counted(done.ended_leases, 'lease')}; the next one has a fence above {done.fence}.")
    if done.rest.until:
        until = format_moment(done.rest.until.isoformat())
        say(
            f"Nobody gets any of {counted(done.rest.users, 'user')} before the rest is over, "
            f"at {until} at the latest."
        )


async def _work(settings: Settings, rest_seconds: int | None) -> Restored:
    await migrate(settings)
    async with open_services(settings.as_owner(), "after-restore", in_background=True) as services:
        return await services.after_restore.run(rest_seconds=rest_seconds)
