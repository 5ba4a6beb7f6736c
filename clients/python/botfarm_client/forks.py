"""A process that is forked has the memory of its parent, but none of its threads: what they held is held for ever."""

import os
from typing import Protocol
from weakref import WeakSet


class Inherited(Protocol):
    def begin_anew(self) -> None: ...


_inherited: "WeakSet[Inherited]" = WeakSet()


def begin_anew_when_forked(this: Inherited) -> None:
    _inherited.add(this)


def _begin_all_anew() -> None:
    for this in list(_inherited):
        this.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_all_anew)
