"""Leases of test accounts: `with Botfarm().lease() as lease: lease.user.login`."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from botfarm_client.async_farm import AsyncBotfarm
    from botfarm_client.async_lease import AsyncLease, AsyncLeasedUser
    from botfarm_client.farm import Botfarm
    from botfarm_client.lease import Lease, LeasedUser

__version__ = "0.1.0"
__all__ = ["AsyncBotfarm", "AsyncLease", "AsyncLeasedUser", "Botfarm", "Lease", "LeasedUser"]

# Loaded when they are asked for: pytest reads this package at each start, and most runs want no farm.
_HOMES = {
    "AsyncBotfarm": "async_farm",
    "AsyncLease": "async_lease",
    "AsyncLeasedUser": "async_lease",
    "Botfarm": "farm",
    "Lease": "lease",
    "LeasedUser": "lease",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"botfarm_client.{_HOMES[name]}"), name)
