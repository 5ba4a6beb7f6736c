"""The clock of one-time codes, in the hands of a test."""

PERIOD = 30


class CodeClock:
    """Stands still, but for the pauses of a service, which take no time."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0
        """Seconds since the epoch: the beginning of a period of 30 seconds, and of one of 60."""
        self.pauses: list[float] = []

    def time(self) -> float:
        return self.now

    def left(self, seconds: float) -> None:
        """Moves on to so many seconds before the end of a period."""
        self.now += (-seconds - self.now) % PERIOD

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds
