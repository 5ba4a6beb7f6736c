"""The filter by pool that lists have in their addresses: `?project=shop&env=stage&domain=canary`."""

from dataclasses import dataclass, replace
from typing import Annotated
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Depends

from botfarm.domain.projects import Project, domains_of, envs_of, id_or_name
from botfarm.web.api.shared.fields import SearchText, ShortName
from botfarm.web.http.dependencies import Caller, Farm


@dataclass(frozen=True, slots=True)
class ChosenPool:
    """Null means any."""

    projects: list[Project]
    """Those of the caller's scope, for the form and for the names of pools."""
    project: Project | None
    env: str | None
    domain: str | None

    @property
    def project_id(self) -> UUID | None:
        return self.project.id if self.project else None

    @property
    def names(self) -> dict[UUID, str]:
        return {project.id: project.name for project in self.projects}

    @property
    def envs(self) -> list[str]:
        """Those to choose from. The chosen one is among them, because lists of the past may have others."""
        return _with(self.env, envs_of([self.project] if self.project else self.projects))

    @property
    def domains(self) -> list[str]:
        """As `envs`."""
        return _with(self.domain, domains_of([self.project] if self.project else self.projects))

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
    env: ShortName | None = None,
    domain: ShortName | None = None,
) -> ChosenPool:
    """The project by its name or id. Raises NoSuchProjectError."""
    chosen = None
    if project is not None:
        found = await farm.projects.look_up(caller.scope, id_or_name(project))
        chosen = found.within(caller.scope)
    return ChosenPool(await farm.projects.list(caller.scope), chosen, env, domain)


def _with(chosen: str | None, names: list[str]) -> list[str]:
    return names if chosen is None or chosen in names else [*names, chosen]


PoolFilter = Annotated[ChosenPool, Depends(chosen_pool)]
