"""The terms that a caller may give for a lease, and the request that they become."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, TypedDict

from botfarm_client.connection.api_calls import Json
from botfarm_client.connection.farm_settings import FarmSettings
from botfarm_client.errors import SettingError
from botfarm_client.leasing.acquiring import Acquiring
from botfarm_client.shared import clock
from botfarm_client.shared.ids import is_id

Purpose = Literal["test", "chore", "hold"]
WantedLabels = Mapping[str, str | Collection[str] | None]


class LeaseTerms(TypedDict, total=False):
    """Keyword arguments of `acquire` and `lease`. Where `None` is allowed, it means the default."""

    env: str | None
    """One of the project's. Default: the `env` of the farm object, else BOTFARM_ENV."""
    domain: str | None
    """One of the project's. Default: the `domain` of the farm object, else the project's first."""
    count: int
    """Number of users, 1 to 100: all of them or none. Default: 1."""
    labels: WantedLabels | None
    """What is asked of the labels of each user. Default: nothing.

    A value that it must have, a list of values of which it must have one, or `None`: it must not have this label.
    """
    user: str | None
    """A login: this user and no other, of any domain. It goes without `labels`, and with a `count` of 1."""
    wait: float | None
    """Seconds to wait until enough users are free; 0 tries once.

    Default: the `wait` of the farm object, which is 120.
    """
    ttl: int | None
    """Seconds from a renewal to the end of the lease: how long users stay taken if this process is killed.

    The farm grants no more than the project's `max_ttl`. Default: the `ttl` of the farm object, else the
    project's `default_ttl`.
    """
    priority: int
    """-10 to 10. Among waiting requests a greater priority is served first. Default: 0."""
    owner: str | None
    """Who holds the lease, for people who look at the list of leases. Default: nobody."""
    metadata: Mapping[str, Any] | None
    """A JSON object that is kept with the lease, for people and scripts. Default: none."""
    purpose: Purpose
    """`test`; `chore`: a user that waits for a keeper; `hold`: a user for a person, who does not wait.

    They need the roles runner, keeper and manager. Default: `test`.
    """
    user_id: str | None
    """Of a hold: this user, also if no test may have it. Then project, env and domain do not matter."""
    note: str | None
    """Of a hold: why, for people who look at the list of leases."""


def acquiring_for(
    settings: FarmSettings, terms: LeaseTerms, *, now: Callable[[], float] = clock.now
) -> Acquiring:
    """The acquire of a lease on these terms.

    Raises SettingError, and TypeError for a term that does not exist.
    """
    if unknown := sorted(terms.keys() - LeaseTerms.__annotations__.keys()):
        known = ", ".join(LeaseTerms.__annotations__)
        raise TypeError(f"unexpected keyword argument {unknown[0]!r}: a lease takes {known}")
    return Acquiring(_lease_request(settings, terms), wait=_wait(settings, terms), now=now)


def _wait(settings: FarmSettings, terms: LeaseTerms) -> float:
    wait = terms.get("wait")
    if terms.get("purpose") != "hold":
        return settings.wait if wait is None else wait
    if wait:
        raise SettingError("a hold does not wait: leave its wait out")
    return 0


def _lease_request(settings: FarmSettings, terms: LeaseTerms) -> Json:
    """The body of the request, without its wait. Raises SettingError."""
    ttl = terms.get("ttl")
    of_a_purpose = {name: terms.get(name) for name in ("purpose", "user_id", "note")}
    return {
        **({} if terms.get("user_id") else _pool(settings, terms)),
        "ttl_seconds": settings.ttl if ttl is None else ttl,
        "owner": terms.get("owner"),
        "metadata": dict(terms.get("metadata") or {}),
        **{name: value for name, value in of_a_purpose.items() if value is not None},
    }


def _pool(settings: FarmSettings, terms: LeaseTerms) -> Json:
    project, env = settings.project, terms.get("env") or settings.env
    domain = terms.get("domain") or settings.domain
    if project is None:
        raise SettingError("no project: set BOTFARM_PROJECT to its name or id")
    if not env:
        raise SettingError("no env: set BOTFARM_ENV to an env of the project, such as stage")
    user = terms.get("user")
    return {
        "project_id" if is_id(project) else "project": project,
        "env": env,
        **({"domain": domain} if domain else {}),
        "labels": {key: _label(value) for key, value in (terms.get("labels") or {}).items()},
        "count": terms.get("count", 1),
        "priority": terms.get("priority", 0),
        **({} if user is None else {"user": user}),
    }


def _label(wanted: str | Collection[str] | None) -> str | list[str] | None:
    """As JSON has it. The farm refuses what is neither a text nor texts."""
    return list(wanted) if isinstance(wanted, Collection) and not isinstance(wanted, str) else wanted
