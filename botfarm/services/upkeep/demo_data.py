"""Adds demo data: enough to try everything, and nothing that could be mistaken for real."""

import secrets
from dataclasses import dataclass

from botfarm.domain.access import EVERYTHING, THIS_MACHINE, Role
from botfarm.domain.pools import Pool
from botfarm.domain.projects import Cleaning, Project, ProjectPolicy
from botfarm.errors import ProjectExistsError, UnauthenticatedError, UserExistsError
from botfarm.services.access.token_authentication import TokenAuthentication
from botfarm.services.access.tokens import Tokens
from botfarm.services.stock.projects import Projects
from botfarm.services.stock.users import Users

PROJECTS = ("shop", "bank")
USERS_PER_POOL = 5
LANGUAGES = ("de", "en", "fr")
KEPT = ProjectPolicy(cleaning=Cleaning.ON_DIRTY, check_every=60)
"""So often that somebody who looks at the dashboards sees a keeper at work."""


@dataclass(frozen=True, slots=True)
class DemoCounts:
    projects: int
    users: int


async def add_demo_data(projects: Projects, users: Users, *, kept: bool = False) -> DemoCounts:
    """Adds what is missing of two projects with five users in each pool. Returns how much was added.

    `kept`: a keeper is there, so the policy of the first project gives it chores, unless the project is there already.
    """
    new_projects = new_users = 0
    for name in PROJECTS:
        policy = KEPT if kept and name == PROJECTS[0] else ProjectPolicy()
        try:
            project = await projects.create(THIS_MACHINE, project_id=None, name=name, policy=policy)
            new_projects += 1
        except ProjectExistsError:
            project = await projects.look_up(EVERYTHING, name)
        for env in project.envs:
            for domain in project.domains:
                new_users += await _fill_pool(users, project, Pool(project.id, env, domain))
    return DemoCounts(new_projects, new_users)


async def token_of_the_demo(
    tokens: Tokens, authentication: TokenAuthentication, role: Role, *, held: str
) -> str:
    """A token for the first project in stage: `held` if it is still in force, else a new one."""
    try:
        await authentication.principal_of(f"Bearer {held}")
    except UnauthenticatedError:
        made = await tokens.create(
            THIS_MACHINE,
            name=f"demo-{role}s",
            role=role,
            projects=PROJECTS[:1],
            envs=["stage"],
            max_leases=None,
            expires_in=None,
        )
        return made.written
    return held


async def _fill_pool(users: Users, project: Project, pool: Pool) -> int:
    added = 0
    for number in range(1, USERS_PER_POOL + 1):
        try:
            await users.create(
                THIS_MACHINE,
                login=f"{pool.domain}-{number}@{pool.env}.{project.name}.test",
                password=secrets.token_urlsafe(12),
                pool=pool,
                labels={"language": LANGUAGES[number % len(LANGUAGES)]},
            )
        except UserExistsError:
            continue
        added += 1
    return added
