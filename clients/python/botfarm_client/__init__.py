"""Leases of test accounts: `with Botfarm().lease() as lease: lease.user.login`."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from botfarm_client.leasing.async_farm import AsyncBotfarm
    from botfarm_client.leasing.async_lease import AsyncChore, AsyncLease, AsyncLeasedUser
    from botfarm_client.leasing.farm import Botfarm
    from botfarm_client.leasing.lease import Chore, Lease, LeasedUser
    from botfarm_client.leasing.lease_request import LeaseTerms

__version__ = "0.1.0"
__all__ = [
    "AsyncBotfarm",
    "AsyncChore",
    "AsyncLease",
    "AsyncLeasedUser",
    "Botfarm",
    "Chore",
    "Lease",
    "LeaseTerms",
    "LeasedUser",
]

# Loaded when they are asked for: pytest reads this package at each start, and most runs want no farm.
_HOMES = {
    "AsyncBotfarm": "leasing.async_farm",
    "AsyncChore": "leasing.async_lease",
    "AsyncLease": "leasing.async_lease",
    "AsyncLeasedUser": "leasing.async_lease",
    "Botfarm": "leasing.farm",
    "Chore": "leasing.lease",
    "Lease": "leasing.lease",
    "LeaseTerms": "leasing.lease_request",
    "LeasedUser": "leasing.lease",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"botfarm_client.{_HOMES[name]}"), name)
