"""What is wrong with a farm file: line, place and message, never a value."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mistake:
    line: int
    place: str
    """As `projects.shop.users[3].login`; empty for the whole file."""
    message: str

    def written(self, name: str) -> str:
        """`farm.yaml:17: projects.shop.users[3].login: must be an e-mail address`."""
        place = f" {self.place}:" if self.place else ""
        return f"{name}:{self.line}:{place} {self.message}"


class FarmFileError(Exception):
    def __init__(self, errors: Sequence[Mistake]) -> None:
        super().__init__(f"{len(errors)} errors")
        self.errors = tuple(errors)


def path_in_map(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def path_in_list(path: str, index: int) -> str:
    """Counted from 0."""
    return f"{path}[{index}]"
