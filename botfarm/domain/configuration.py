"""The farm as a file wants it, and what is to be done until it is so.

Null in a wanted thing leaves a field as it is, or at its default when the thing is made.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from botfarm.domain.access import Role
from botfarm.domain.projects import ProjectChanges


@dataclass(frozen=True, slots=True)
class WantedUser:
    login: str
    env: str
    domain: str | None = None
    labels: Mapping[str, str] | None = None
    """All of them: a label that is not here is removed."""
    password: str | None = field(default=None, repr=False)
    """Only for a user that is made, as the two below. A user that exists keeps what tests have written back."""
    secrets: Mapping[str, object] | None = field(default=None, repr=False)
    totp_seed: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class WantedProject:
    name: str
    settings: ProjectChanges
    users: tuple[WantedUser, ...]


@dataclass(frozen=True, slots=True)
class WantedToken:
    name: str
    role: Role
    projects: frozenset[str] | None
    """Names; null means all, as for `envs`."""
    envs: frozenset[str] | None
    max_leases: int | None
    expires_in: int | None
    """Seconds, for a token that is made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedTrustRule:
    """Null in a quota means any number, as in a token."""

    name: str
    issuer: str
    claims: Mapping[str, str]
    role: Role
    projects: frozenset[str] | None
    """Names; null means all, as for `envs`."""
    envs: frozenset[str] | None
    max_leases: int | None
    max_leases_of_all: int | None
    token_ttl: int
    once: bool


@dataclass(frozen=True, slots=True)
class WantedFarm:
    name: str
    """The name of the file, which marks what it has made."""
    projects: tuple[WantedProject, ...]
    tokens: tuple[WantedToken, ...]
    trust_rules: tuple[WantedTrustRule, ...] = ()
    prune: bool = False
    """Whether users are retired, and tokens and trust rules revoked, that the file made and no longer names."""
    adopt: bool = False
    """Whether the file takes over what it names and did not make."""


class Kind(StrEnum):
    PROJECT = "project"
    USER = "user"
    TOKEN = "token"  # noqa: S105  a kind of thing
    TRUST_RULE = "trust_rule"


class Deed(StrEnum):
    """What is done to one thing."""

    CREATE = "create"
    UPDATE = "update"
    ADOPT = "adopt"
    """Marked as the file's from now on, and changed to what the file says."""
    RETIRE = "retire"
    """A user that the file no longer names. A leased one goes at its release."""
    REVOKE = "revoke"
    """A token or a trust rule that the file no longer names."""


@dataclass(frozen=True, slots=True)
class Thing:
    """A project, a user, a token or a trust rule, as the file and the farm call it."""

    kind: Kind
    name: str
    """A login, for a user."""
    project: str | None = None
    env: str | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    field: str
    before: object
    after: object


@dataclass(frozen=True, slots=True)
class Change:
    thing: Thing
    deed: Deed
    differences: tuple[Difference, ...] = ()
    where: str | None = None
    """The place in the file, such as `projects.0.users.3`; null for what the file no longer names."""
    id: UUID | str | None = None
    """Null for what is to be made."""


class WhyLeft(StrEnum):
    """Why something that the file names is left as it is."""

    NOT_MANAGED = "not-managed"
    """No file has made it."""
    MANAGED_ELSEWHERE = "managed-elsewhere"
    """Another file has made it."""
    RETIRED = "retired"
    """A retired user is out of service for good."""


@dataclass(frozen=True, slots=True)
class LeftAlone:
    thing: Thing
    reason: WhyLeft
    differences: tuple[Difference, ...] = ()
    """Between the farm and the file."""


@dataclass(frozen=True, slots=True)
class Plan:
    changes: tuple[Change, ...]
    left_alone: tuple[LeftAlone, ...]
    unnamed: tuple[Thing, ...]
    """What the file made and no longer names. A plan that prunes lists these users, tokens and rules as changes."""
    fingerprint: str
    """Of the file's name and the changes. An apply is refused when it is another one by then."""


@dataclass(frozen=True, slots=True)
class AppliedToken:
    name: str
    id: str
    written: str = field(repr=False)
    """The token itself, which cannot be shown again."""


@dataclass(frozen=True, slots=True)
class Applied:
    plan: Plan
    tokens: tuple[AppliedToken, ...]
