"""What the checker finds in the history of a story."""

from chaos.checker import check
from chaos.checker.violations import Violation
from chaos.history import CANARY
from support.chaos_passwords import OF_THE_FARM
from support.chaos_story import Story


def found(story: Story) -> list[Violation]:
    return check(*story.finish())


def the_one(story: Story, rule: str) -> str:
    """The text of the only violation, which has no password in it."""
    (violation,) = found(story)
    assert violation.rule == rule, violation
    assert CANARY not in str(violation)
    assert OF_THE_FARM not in str(violation)
    return str(violation)
