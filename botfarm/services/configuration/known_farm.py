"""What the farm has of all that a file names, and of all that it has made."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.access import token_queries, trust_rule_queries
from botfarm.db.stock import managed_queries, project_queries
from botfarm.db.stock.managed_queries import KnownUser
from botfarm.domain.access import Principal, Role, Token
from botfarm.domain.configuration import WantedFarm
from botfarm.domain.logins import login_key
from botfarm.domain.projects import Project
from botfarm.domain.trust import TrustRule

UserKey = tuple[UUID, str, str]
"""Project, env and the normal form of the login: what makes two users the same account."""


@dataclass(frozen=True, slots=True)
class KnownFarm:
    """Within the scope of the caller. Tokens are those in force; only an admin sees them and the trust rules."""

    projects: Mapping[str, Project]
    """By name."""
    users: Mapping[UserKey, KnownUser]
    """Those that the file names."""
    managed_users: tuple[KnownUser, ...]
    """Those that the file has made, also the retired ones."""
    tokens: Mapping[str, Token]
    """By name: of several the file's own, else the newest."""
    trust_rules: Mapping[str, TrustRule]
    """By name."""

    def project_name(self, project_id: UUID) -> str:
        """The id itself for a project that is deleted, which a token may still name."""
        return next((name for name, each in self.projects.items() if each.id == project_id), str(project_id))


async def read_farm(session: AsyncSession, principal: Principal, wanted: WantedFarm) -> KnownFarm:
    scope = principal.scope
    projects = {project.name: project for project in await project_queries.list_projects(session, scope)}
    keys: list[UserKey] = [
        (projects[project.name].id, user.env, login_key(user.login))
        for project in wanted.projects
        if project.name in projects
        for user in project.users
    ]
    users = await managed_queries.users_named(session, keys, scope)
    tokens: dict[str, Token] = {}
    rules: list[TrustRule] = []
    if principal.role.includes(Role.ADMIN):
        for token in await token_queries.tokens_in_force(session, scope):
            if token.name not in tokens or (token.managed_by == wanted.name != tokens[token.name].managed_by):
                tokens[token.name] = token
        rules = await trust_rule_queries.list_trust_rules(session, scope)
    return KnownFarm(
        projects=projects,
        users={(user.pool.project_id, user.pool.env, user.login_key): user for user in users},
        managed_users=tuple(await managed_queries.users_managed_by(session, wanted.name, scope)),
        tokens=tokens,
        trust_rules={rule.name: rule for rule in rules},
    )
