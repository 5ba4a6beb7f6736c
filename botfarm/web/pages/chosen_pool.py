"""The filter by pool that lists have in their addresses: `?project=shop&env=stage&domain=canary`."""

from dataclasses import dataclass, replace
from typing import Annotated
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Depends

from botfarm.domain.pools import Domain, Env
from botfarm.domain.projects import Project, id_or_name
from botfarm.web.api.fields import SearchText
from botfarm.web.http.dependencies import Caller, Farm


@dataclass(frozen=True, slots=True)
class ChosenPool:
    """Null means any."""

    projects: list[Project]
    """Those of the caller's scope, for the form and for the names of pools."""
    project: Project | None
    env: Env | None
    domain: Domain | None

    @property
    def project_id(self) -> UUID | None:
        return self.project.id if self.project else None

    @property
    def names(self) -> dict[UUID, str]:
        return {project.id: project.name for project in self.projects}

    def of(self, project: Project) -> "ChosenPool":
        """The same choice in this project."""
        return replace(self, project=project)

    def address(self, path: str, **further: object) -> str:
        """The path with this filter and further ones as its query, ready for one more field."""
        given = {
            "project": self.project.name if self.project else None,
            "env": self.env,
            "domain": self.domain,
            **further,
        }
        query = urlencode({name: value for name, value in given.items() if value is not None}, doseq=True)
        return f"{path}?{query}&" if query else f"{path}?"


async def chosen_pool(
    farm: Farm,
    caller: Caller,
    project: SearchText = None,
    env: Env | None = None,
    domain: Domain | None = None,
) -> ChosenPool:
    """The project by its name or id. Raises NoSuchProjectError."""
    chosen = None if project is None else await farm.projects.look_up(caller.scope, id_or_name(project))
    return ChosenPool(await farm.projects.list(caller.scope), chosen, env, domain)


PoolFilter = Annotated[ChosenPool, Depends(chosen_pool)]
