from botfarm.errors import DatabaseUnavailableError
from workers.jobs import Heartbeat, Job, run_tick


async def test_a_failed_tick_counts_for_the_heartbeat() -> None:
    errors = iter([DatabaseUnavailableError(), ValueError("a bug")])

    async def failing() -> None:
        raise next(errors)

    job = Job("reap", interval=1_000, tick=failing)
    heartbeat = Heartbeat([job])
    heartbeat._beats["reap"] -= 3_001
    assert heartbeat.late_jobs() == ["reap"]
    await run_tick(job, heartbeat)
    assert heartbeat.late_jobs() == []
    await run_tick(job, heartbeat)
    assert heartbeat.late_jobs() == []
