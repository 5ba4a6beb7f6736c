"""The pages, and who may see them."""

from collections.abc import Callable
from dataclasses import dataclass

from botfarm.domain.access import Role
from support.page_stock import PageFarm


@dataclass(frozen=True)
class Address:
    name: str
    path: str | Callable[[PageFarm], str]
    lowest: Role | None = Role.VIEWER
    """The lowest role that may see it; None: anybody, without signing in."""
    status: int = 200

    def on(self, farm: PageFarm) -> str:
        return self.path if isinstance(self.path, str) else self.path(farm)

    def seen_by(self) -> list[Role | None]:
        return [role for role in Role if role.includes(self.lowest)] if self.lowest else [None]

    def __str__(self) -> str:
        return self.name


def user(state: str) -> Callable[[PageFarm], str]:
    return lambda farm: f"/ui/users/{farm.users[state]}"


ADDRESSES = [
    Address("sign-in", "/ui/sign-in", lowest=None),
    Address("back from the provider", "/ui/sign-in/return", lowest=None, status=404),
    Address("pools", "/ui/pools"),
    Address("users", "/ui/users"),
    Address("users of a filter", "/ui/users?project=shop&env=stage&state=quarantined&label=language:en"),
    Address("no users", "/ui/users?login=nobody"),
    Address("leased user", user("leased")),
    Address("held user", user("held")),
    Address("quarantined user", user("quarantined")),
    Address("leases", "/ui/leases"),
    Address("lease", lambda farm: f"/ui/leases/{farm.lease_id}"),
    Address("hold", lambda farm: f"/ui/leases/{farm.hold_id}"),
    Address("waiting", "/ui/waiting"),
    Address("capacity", "/ui/capacity?project=shop"),
    Address("import", "/ui/users/import", Role.MANAGER),
    Address("audit", "/ui/audit?action=quarantine_user", Role.MANAGER),
    Address("access", "/ui/access", Role.ADMIN),
    Address("unknown page", "/ui/nothing", status=404),
    # Pages that differ little from others, looked at by one role.
    *(
        Address(f"{state} user", user(state), Role.ADMIN)
        for state in ("free", "resting", "dirty", "chore", "retired")
    ),
]
