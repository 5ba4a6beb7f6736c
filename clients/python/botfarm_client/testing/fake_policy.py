from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class FakePolicy:
    """The policy of a project, with the defaults of a real one. Times are in seconds."""

    default_ttl: int = 900
    max_ttl: int = 14_400
    max_hold: int = 43_200
    lock_delay: int = 15
    cooldown: int = 0
    login_gap: int = 0
    quarantine_after: int = 3
    quarantine_share: float = 0.3
    count_expired: bool = False
    cleaning: Literal["off", "on_dirty", "required"] = "off"
    clean_attempts: int = 3
    check_every: int = 0
    rotate_every: int = 0
    rotate_on_release: bool = False
    session_refresh: int = 0

    @property
    def cleans_after_tests(self) -> bool:
        """Whether a keeper comes after every test."""
        return self.cleaning == "required" or self.rotate_on_release
