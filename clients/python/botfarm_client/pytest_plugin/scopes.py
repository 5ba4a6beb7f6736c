"""The scopes of the fixtures, and where the leases of each are kept: at the node of the scope."""

from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from botfarm_client.pytest_plugin.leases import Leases


class Scope(NamedTuple):
    user: str
    """The fixture of one user."""
    lease: str
    """The fixture of several users."""
    stash: "pytest.StashKey[Leases]"


FUNCTION = Scope("botfarm_user", "botfarm_lease", pytest.StashKey())
CLASS = Scope("botfarm_class_user", "botfarm_class_lease", pytest.StashKey())
MODULE = Scope("botfarm_module_user", "botfarm_module_lease", pytest.StashKey())
WORKER = Scope("botfarm_worker_user", "botfarm_farm.lease", pytest.StashKey())

Node = pytest.Item | pytest.Collector

_USED: "pytest.StashKey[list[Leases]]" = pytest.StashKey()


def leases_of(item: pytest.Item) -> "list[Leases]":
    """The leases that a test uses, by its arguments and by the fixtures it requested while it ran."""
    if request := getattr(item, "_request", None):
        # Kept, because pytest forgets the request before plugins that run tests again make their reports.
        item.stash[_USED] = [
            leases
            for scope, leases in _leases_around(item)
            if {scope.user, scope.lease} & {*request.fixturenames}
        ]
    return item.stash.get(_USED, [])


def begin_run(item: pytest.Item) -> None:
    """Begins a run of the test. Ended leases of an earlier run are none of this one."""
    item.stash[_USED] = []
    for scope, leases in _leases_around(item):
        if leases.has_ended:
            del _node(item, scope).stash[scope.stash]
        leases.begin_run(item)


def _leases_around(item: pytest.Item) -> "list[tuple[Scope, Leases]]":
    found = (
        (scope, _node(item, scope).stash.get(scope.stash, None))
        for scope in (FUNCTION, CLASS, MODULE, WORKER)
    )
    return [(scope, leases) for scope, leases in found if leases is not None]


def _node(item: pytest.Item, scope: Scope) -> Node:
    """The node of a fixture's request. A function outside of a class is a class of its own."""
    if scope is WORKER:
        return item.session
    around: Node | None = None
    if scope is CLASS:
        around = item.getparent(pytest.Class)
    elif scope is MODULE:
        around = item.getparent(pytest.Module)
    return around or item
