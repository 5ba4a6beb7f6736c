"""`key=value` on the command line: labels and metadata."""

import json
from collections.abc import Iterable, Mapping

import typer


def parse_pairs(texts: Iterable[str], *, option: str, pair: str = "key=value") -> dict[str, str]:
    """The pairs as a dictionary. Of several pairs with one key the last counts. Raises BadParameter."""
    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f"write it as {pair}", param_hint=option)
        pairs[key] = value
    return pairs


def parse_changes(texts: Iterable[str], *, option: str) -> dict[str, str | None]:
    """As `parse_pairs`, but `key=` gives None, which removes the key."""
    return {key: value or None for key, value in parse_pairs(texts, option=option).items()}


def parse_wanted(texts: Iterable[str], *, option: str) -> dict[str, str | list[str] | None]:
    """What is asked of labels: `key=value`, several values of one key for one of them, `!key` for none.

    Raises BadParameter.
    """
    values: dict[str, list[str]] = {}
    absent: list[str] = []
    for text in texts:
        if text.startswith("!") and "=" not in text:
            absent.append(text[1:])
            continue
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise typer.BadParameter("write it as key=value or !key", param_hint=option)
        values.setdefault(key, []).append(value)
    if not all(absent):
        raise typer.BadParameter("write it as key=value or !key", param_hint=option)
    if both := sorted(values.keys() & absent):
        raise typer.BadParameter(f"{both[0]} cannot have a value and be absent", param_hint=option)
    one_or_several = {key: found[0] if len(found) == 1 else found for key, found in values.items()}
    return {**one_or_several, **dict.fromkeys(absent)}


def format_wanted(labels: Mapping[str, str | list[str] | None]) -> str:
    """`plan=paid or trial, no legacy`."""
    return ", ".join(
        f"no {key}" if value is None else f"{key}={value if isinstance(value, str) else ' or '.join(value)}"
        for key, value in labels.items()
    )


def format_pairs(pairs: Mapping[str, object]) -> str:
    """`key=value, key=value`. A value that is not a text is shown as JSON."""
    shown = {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in pairs.items()
    }
    return ", ".join(f"{key}={value}" for key, value in shown.items())
