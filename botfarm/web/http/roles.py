"""The role that a route needs, declared beside it: FarmRoute enforces it, the OpenAPI document shows it."""

from collections.abc import Callable
from typing import Any, TypeVar

from botfarm.domain.access import Role

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

# An attribute of the endpoint. None means that anyone may call the route; a missing attribute is an error.
_ROLE = "__botfarm_role__"


def needs(role: Role) -> Callable[[Endpoint], Endpoint]:
    """For principals of this role or one that includes it."""
    return _declare(role)


def public(endpoint: Endpoint) -> Endpoint:
    """For anyone, without a token."""
    return _declare(None)(endpoint)


def needed_role(endpoint: Callable[..., Any]) -> Role | None:
    """None when the route is public. Raises TypeError when it declares nothing."""
    try:
        role: Role | None = getattr(endpoint, _ROLE)
    except AttributeError:
        raise TypeError(
            f"{endpoint.__module__}.{endpoint.__name__} declares no role: @needs or @public"
        ) from None
    return role


def _declare(role: Role | None) -> Callable[[Endpoint], Endpoint]:
    def mark(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, _ROLE, role)
        return endpoint

    return mark
