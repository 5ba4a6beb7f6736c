"""What a page says after a change. The address has only the key, because anybody can write an address."""

from enum import StrEnum


class Did(StrEnum):
    QUARANTINED = "quarantined"
    RESTORED = "restored"
    RETIRED = "retired"
    LABELLED = "labelled"
    HELD = "held"
    RENEWED = "renewed"
    RELEASED = "released"
    FORCED = "forced"

    @property
    def words(self) -> str:
        return _WORDS[self]


_WORDS = {
    Did.QUARANTINED: "Quarantined: no test gets it from now on. A test that has it keeps it until its release.",
    Did.RESTORED: "Restored.",
    Did.RETIRED: "Retired for good. A test that has it keeps it until its release.",
    Did.LABELLED: "The labels are changed.",
    Did.HELD: "You have it: no test gets it until you release it.",
    Did.RENEWED: "Renewed.",
    Did.RELEASED: "Released.",
    Did.FORCED: "The lease has ended. Its holder finds out at the next renewal.",
}
