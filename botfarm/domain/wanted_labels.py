"""What a request asks of the labels of its users."""

from collections.abc import Iterable, Mapping
from typing import Any

WantedLabels = Mapping[str, str | tuple[str, ...] | None]
"""By key: the value that a user must have, several of which it must have one, or null: it must not have the key."""

MAX_ALTERNATIVES = 64
"""Values of one key, at most."""


def alternatives(values: Iterable[str]) -> str | tuple[str, ...]:
    """In one form, so that requests for the same users are equal: sorted, each once, and one alone as a text."""
    several = tuple(sorted(set(values)))
    return several[0] if len(several) == 1 else several


def plain(wanted: WantedLabels) -> dict[str, str]:
    """The part that asks for one value each."""
    return {key: value for key, value in wanted.items() if isinstance(value, str)}


def choices(wanted: WantedLabels) -> dict[str, tuple[str, ...] | None]:
    """The other part: one of several values, or no such label."""
    return {key: value for key, value in wanted.items() if not isinstance(value, str)}


def have(labels: Mapping[str, str], wanted: Mapping[str, Any]) -> bool:
    """Whether a user with these labels is wanted."""
    return all(_has(labels.get(key), value) for key, value in wanted.items())


def _has(label: str | None, wanted: Any) -> bool:
    if wanted is None or isinstance(wanted, str):
        return label == wanted
    return label in wanted
