"""Which role people get by the groups that their company's provider says they are in."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

EVERYBODY = "*"
ROLES = ("viewer", "runner", "keeper", "manager", "admin")
"""As `botfarm.domain.access.Role` has them."""
_PROJECTS = re.compile(r"[^/,;=\s]+")
_ENVS = re.compile(r"\*|[a-z0-9][a-z0-9._-]{0,31}")


@dataclass(frozen=True, slots=True)
class GroupRole:
    group: str
    """`*` is everybody that the provider lets in."""
    role: str
    projects: tuple[str, ...] | None
    """By name or id; null means all."""
    envs: tuple[str, ...] | None


def parse_group_roles(text: str) -> list[GroupRole]:
    """`qa-leads=manager:shop/*; *=viewer`: a group, a role, and where it holds, `projects/envs`, else everywhere.

    Raises ValueError, whose text names the entry by its number and never repeats it.
    """
    entries = [entry.strip() for entry in text.split(";") if entry.strip()]
    return [_parse(entry, number) for number, entry in enumerate(entries, start=1)]


def role_of(groups: Collection[str], mapping: Sequence[GroupRole]) -> GroupRole | None:
    """The first entry whose group the person is in; null when there is none: then nobody is let in."""
    return next((each for each in mapping if each.group == EVERYBODY or each.group in groups), None)


def _parse(entry: str, number: int) -> GroupRole:
    group, equals, rest = entry.rpartition("=")
    role, colon, where = rest.strip().partition(":")
    projects, slash, envs = where.partition("/")
    is_whole = bool(group.strip() and equals) and (not colon or bool(slash))
    if not is_whole or (colon and not (_are(_PROJECTS, projects) and _are(_ENVS, envs))):
        raise ValueError(f"entry {number} is not like group=role, or group=role:projects/envs")
    if role.strip() not in ROLES:
        raise ValueError(f"entry {number} has no role of {', '.join(ROLES)}")
    return GroupRole(group.strip(), role.strip(), _chosen(projects), _chosen(envs))


def _are(pattern: re.Pattern[str], names: str) -> bool:
    return all(pattern.fullmatch(name.strip()) for name in names.split(","))


def _chosen(names: str) -> tuple[str, ...] | None:
    chosen = tuple(name.strip() for name in names.split(",") if name.strip())
    return None if not chosen or EVERYBODY in chosen else chosen
