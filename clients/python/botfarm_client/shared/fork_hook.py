"""A process that is forked has the memory of its parent, but none of its threads: what they held is held for ever."""

import os
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

_inherited: "WeakKeyDictionary[Any, Callable[[Any], None]]" = WeakKeyDictionary()


def call_when_forked(this: T, begin_anew: Callable[[T], None]) -> None:
    """In the child, with `this`, which is not kept alive by that."""
    _inherited[this] = begin_anew


def _begin_all_anew() -> None:
    for this, begin_anew in list(_inherited.items()):
        begin_anew(this)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_all_anew)
