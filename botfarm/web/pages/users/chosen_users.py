"""The filter of users in the address of their list: as `get_users` of the API takes it, with the project's name."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query

from botfarm.domain.health import Health
from botfarm.domain.users import MAX_LABELS, UserFilter, UserState
from botfarm.web.api.shared.fields import Label, SearchText, ShortName, labels_by_key
from botfarm.web.http.dependencies import Caller, Farm
from botfarm.web.pages.chosen_pool import ChosenPool, chosen_pool


@dataclass(frozen=True, slots=True)
class ChosenUsers:
    pool: ChosenPool
    labels: list[str]
    """As they are typed: `key:value`."""
    filter: UserFilter

    @property
    def is_everybody(self) -> bool:
        return self.filter == UserFilter()

    def address(self, path: str) -> str:
        """The path with this filter as its query."""
        return self.address_to_extend(path).rstrip("?&")

    def address_to_extend(self, path: str) -> str:
        """As `ChosenPool.address`."""
        return self.pool.address(
            path,
            state=self.filter.state,
            health=self.filter.health,
            login=self.filter.login,
            search=self.filter.search,
            label=self.labels,
        )

    @property
    def words(self) -> str:
        """The filter for people to read."""
        project = self.pool.project.name if self.pool.project else None
        chosen = {
            "project": project,
            "env": self.filter.env,
            "domain": self.filter.domain,
            "state": self.filter.state,
            "health": self.filter.health,
            "login": self.filter.login,
            "login with": self.filter.search,
        }
        given = [f"{name} {value}" for name, value in chosen.items() if value is not None]
        return ", ".join([*given, *(f"label {label}" for label in self.labels)])


async def _chosen_users(
    farm: Farm,
    caller: Caller,
    *,
    project: SearchText = None,
    env: ShortName | None = None,
    domain: ShortName | None = None,
    state: UserState | None = None,
    health: Health | None = None,
    login: SearchText = None,
    search: SearchText = None,
    label: Annotated[list[Label] | None, Query(max_length=MAX_LABELS)] = None,
) -> ChosenUsers:
    """Raises NoSuchProjectError, and InvalidRequestError for two values of one label."""
    pool = await chosen_pool(farm, caller, project, env, domain)
    labels = label or []
    chosen = UserFilter(pool.project_id, env, domain, state, health, login, labels_by_key(labels), search)
    return ChosenUsers(pool, labels, chosen)


UsersFilter = Annotated[ChosenUsers, Depends(_chosen_users)]
