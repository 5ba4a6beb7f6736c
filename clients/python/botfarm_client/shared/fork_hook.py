"""Calls back in a forked process. It has its parent's locks but not the threads that hold them."""

import os
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

_inherited: "WeakKeyDictionary[Any, Callable[[Any], None]]" = WeakKeyDictionary()


def call_when_forked(this: T, begin_anew: Callable[[T], None]) -> None:
    """Calls `begin_anew(this)` in each forked child. Holds no reference to `this`."""
    _inherited[this] = begin_anew


def _begin_all_anew() -> None:
    for this, begin_anew in list(_inherited.items()):
        begin_anew(this)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_all_anew)
