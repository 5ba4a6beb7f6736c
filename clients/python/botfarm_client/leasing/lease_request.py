from collections.abc import Mapping
from typing import Any

from botfarm_client.connection.api_calls import Json
from botfarm_client.connection.farm_settings import FarmSettings
from botfarm_client.errors import SettingError
from botfarm_client.shared.ids import is_id


def lease_request(
    settings: FarmSettings,
    *,
    env: str | None,
    domain: str | None,
    count: int,
    labels: Mapping[str, str] | None,
    ttl: int | None,
    priority: int,
    owner: str | None,
    metadata: Mapping[str, Any] | None,
) -> Json:
    """The body of a request for a lease, without its wait; what is not given is the settings'. Raises SettingError."""
    project = settings.project
    if project is None:
        raise SettingError("no project: set BOTFARM_PROJECT to its name or id")
    if not (env or settings.env):
        raise SettingError("no env: set BOTFARM_ENV to prod, preprod or stage")
    return {
        "project_id" if is_id(project) else "project": project,
        "env": env or settings.env,
        "domain": settings.domain if domain is None else domain,
        "labels": dict(labels or {}),
        "count": count,
        "ttl_seconds": settings.ttl if ttl is None else ttl,
        "priority": priority,
        "owner": owner,
        "metadata": dict(metadata or {}),
    }
