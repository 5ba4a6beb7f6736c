from botfarm.cli.errors import one_line_errors
from workers.process import main


@one_line_errors()
def worker() -> None:
    """Run the scheduler: reaps expired locks, refreshes gauges, prunes history."""
    main()
