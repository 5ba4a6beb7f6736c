from botfarm.errors import DatabaseUnavailableError
from workers.jobs import Heartbeat, Job, run_tick


async def test_a_tick_that_fails_is_a_turn_all_the_same() -> None:
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
