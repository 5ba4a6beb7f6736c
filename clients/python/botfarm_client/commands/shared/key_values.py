"""`key=value` on the command line: labels and metadata."""

import json
from collections.abc import Iterable, Mapping

import typer


def parse_pairs(texts: Iterable[str], *, option: str) -> dict[str, str]:
    """The pairs as a dictionary. Of several pairs with one key the last counts. Raises BadParameter."""
    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise typer.BadParameter("write it as key=value", param_hint=option)
        pairs[key] = value
    return pairs


def parse_changes(texts: Iterable[str], *, option: str) -> dict[str, str | None]:
    """As `parse_pairs`, but `key=` gives None, which removes the key."""
    return {key: value or None for key, value in parse_pairs(texts, option=option).items()}


def format_pairs(pairs: Mapping[str, object]) -> str:
    """`key=value, key=value`. A value that is not a text is shown as JSON."""
    shown = {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in pairs.items()
    }
    return ", ".join(f"{key}={value}" for key, value in shown.items())
