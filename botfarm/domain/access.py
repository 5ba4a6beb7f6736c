"""Access: roles and scopes, and the principals, tokens and operators that have them."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

_TOKEN, _OPERATOR = "token:", "operator:"
"""Prefixes of the names of principals. `botfarm.db.access.token_queries` follows tokens by them."""


class Role(StrEnum):
    """Each role includes the roles before it; docs/security.md has the table."""

    VIEWER = "viewer"
    RUNNER = "runner"
    KEEPER = "keeper"
    MANAGER = "manager"
    ADMIN = "admin"

    def includes(self, other: "Role") -> bool:
        return _RANKS[self] >= _RANKS[other]


_RANKS = {role: rank for rank, role in enumerate(Role)}


@dataclass(frozen=True, slots=True)
class Scope:
    """The projects and envs that a principal may see; null means all. All others do not exist for it."""

    projects: frozenset[UUID] | None
    envs: frozenset[str] | None

    @property
    def is_whole(self) -> bool:
        return self.projects is None and self.envs is None

    def has_project(self, project_id: UUID) -> bool:
        return self.projects is None or project_id in self.projects

    def has_env(self, env: str) -> bool:
        return self.envs is None or env in self.envs

    def contains(self, other: "Scope") -> bool:
        return _contains(self.projects, other.projects) and _contains(self.envs, other.envs)


def _contains(ours: frozenset[object] | None, theirs: frozenset[object] | None) -> bool:
    return ours is None or (theirs is not None and theirs <= ours)


EVERYTHING = Scope(None, None)


@dataclass(frozen=True, slots=True)
class Principal:
    """The authenticated caller. Leases and the audit keep its name, so no other principal ever has it."""

    name: str
    role: Role
    scope: Scope
    max_leases: int | None = None
    """Users held at the same time; null means any number."""
    expires_at: datetime | None = None
    """When its token expires; null means never."""
    session_id: UUID | None = field(default=None, compare=False)
    """The session of an operator, else null. An operator is the same principal in each session."""
    address: str | None = None
    request_id: str | None = None

    @property
    def token_id(self) -> str | None:
        """The id of the token; null unless the principal is one."""
        return self.name.rpartition(":")[2] if self.name.startswith(_TOKEN) else None

    @property
    def operator_name(self) -> str | None:
        """The name of the operator; null unless the principal is one."""
        return self.name.removeprefix(_OPERATOR) if self.name.startswith(_OPERATOR) else None


THE_POLICY = Principal("policy", Role.ADMIN, EVERYTHING)
"""Who changes a user by the policy of its project, as the audit names it."""

THIS_MACHINE = Principal("command-line", Role.ADMIN, EVERYTHING)
"""The principal of the server's own commands, which have the password of the database."""


@dataclass(frozen=True, slots=True)
class Token:
    """An API credential, without its secret."""

    id: str
    name: str
    role: Role
    scope: Scope
    max_leases: int | None
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    managed_by: str | None = None
    """The file that made it; null for a token that was made by other ways."""

    @property
    def principal_name(self) -> str:
        return f"{_TOKEN}{self.name}:{self.id}"


@dataclass(frozen=True, slots=True)
class Operator:
    """A person who runs the farm. The name is unique for ever: an operator is disabled, never deleted."""

    id: UUID
    name: str
    role: Role
    scope: Scope
    created_at: datetime
    disabled_at: datetime | None

    @property
    def principal_name(self) -> str:
        return f"{_OPERATOR}{self.name}"


@dataclass(frozen=True, slots=True)
class Session:
    """An operator who is signed in."""

    id: UUID
    operator: Operator
    expires_at: datetime
    seconds_left: float
    """Seconds until it ends, counted when it was read."""
