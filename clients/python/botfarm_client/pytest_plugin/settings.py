"""The settings of a run: from the command line, variables, the ini file and markers."""

from collections.abc import Mapping
from math import inf
from typing import Any

import pytest

from botfarm_client.pytest_plugin.scopes import Node
from botfarm_client.shared.text_input import variable

TERMS = ("env", "domain", "user", "labels", "count", "wait", "ttl", "priority", "metadata", "broken_on")
_SIGNATURE = f"botfarm({', '.join(f'{name}=...' for name in TERMS)})"
MARKER = f"{_SIGNATURE}: the users that botfarm_user, botfarm_lease and those of a class or module take"
_SETTINGS = {
    "url": ("URL", "where the farm is, else BOTFARM_URL; the token is always BOTFARM_TOKEN"),
    "project": ("PROJECT", "the name or id of the system under test, else BOTFARM_PROJECT"),
    "env": ("ENV", "one of the project's, else BOTFARM_ENV"),
    "domain": ("DOMAIN", "one of the project's, else its first"),
    "user": ("LOGIN", "this user for every test that takes one, to reproduce a failure"),
    "wait": ("DURATION", "how long to wait for a user, such as 90 or 10m; 2m unless it is said"),
    "ttl": ("DURATION", "how long users stay taken when a run is killed; else as the project says"),
    "hold-failed": ("DURATION", "how long a failed test's user is kept for a post-mortem"),
}
_DURATIONS = ("wait", "ttl", "hold-failed")
_OF_ANY_USER = {"labels", "count"}
_VARIABLES = {"url": "BOTFARM_URL", "project": "BOTFARM_PROJECT", "env": "BOTFARM_ENV"}


def add_settings(parser: pytest.Parser) -> None:
    group = parser.getgroup("botfarm", "users from a botfarm")
    for name, (kind, text) in _SETTINGS.items():
        group.addoption(f"--botfarm-{name}", dest=_key(name), metavar=kind, help=text)
        parser.addini(_key(name), text)


def setting(config: pytest.Config, name: str) -> str | None:
    """A setting: from the command line, else the variable, else the ini file."""
    of_environment = variable(_VARIABLES[name]) if name in _VARIABLES else None
    return config.getoption(_key(name)) or of_environment or config.getini(_key(name)) or None


def check_settings(config: pytest.Config) -> None:
    """Checks durations once, before the first test. Raises UsageError."""
    for name in _DURATIONS:
        try:
            duration(config, name)
        except pytest.fail.Exception as failed:
            raise pytest.UsageError(failed.msg) from None


def duration(config: pytest.Config, name: str) -> int | None:
    """A setting in seconds."""
    value = setting(config, name)
    return None if value is None else _seconds(value, of=f"--botfarm-{name} (or {_key(name)})")


def terms(config: pytest.Config, node: Node, given: Mapping[str, Any]) -> dict[str, Any]:
    """The terms of a lease: the given ones, else the closest marker's, else the run's."""
    found: dict[str, Any] = {name: setting(config, name) for name in ("env", "domain")}
    found |= {name: duration(config, name) for name in ("wait", "ttl")}
    markers = reversed(list(node.iter_markers("botfarm")))
    for source in (*(_of_marker(marker) for marker in markers), given):
        if unknown := source.keys() - set(TERMS):
            names = ", ".join(sorted(unknown))
            raise failure(f"unknown: {names}; there are {', '.join(TERMS)}")
        # One user is wanted whatever its labels. A source that is closer to the test may want any user again.
        overruled = _OF_ANY_USER if source.get("user") else {"user"} if source.keys() & _OF_ANY_USER else ()
        found = {name: value for name, value in found.items() if name not in overruled} | {**source}
    if user := setting(config, "user"):
        found |= {"user": user, "labels": None}
    for name in ("wait", "ttl"):
        if found[name] is not None:
            is_number = name == "wait" and isinstance(found[name], float) and 0 <= found[name] < inf
            found[name] = found[name] if is_number else _seconds(found[name], of=name)
    return {name: value for name, value in found.items() if value is not None}


def failure(message: str) -> BaseException:
    """The failure of a test, in one line, because the traceback would show only the plugin's code."""
    return pytest.fail.Exception(f"botfarm: {message}", pytrace=False)


def _seconds(value: object, *, of: str) -> int:
    from botfarm_client.shared.durations import (  # noqa: PLC0415  only where a duration is given
        TimeFormatError,
        parse_duration,
    )

    try:
        return parse_duration(str(value))
    except TimeFormatError as error:
        raise failure(f"{of}: {error}") from None


def _of_marker(marker: pytest.Mark) -> Mapping[str, Any]:
    if marker.args:
        raise failure("write the marker's arguments with their names: botfarm(env='stage')")
    return marker.kwargs


def _key(name: str) -> str:
    return f"botfarm_{name.replace('-', '_')}"
