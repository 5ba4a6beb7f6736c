from uuid import UUID

from botfarm import errors
from botfarm.domain.access import Role
from botfarm.domain.projects import Project
from botfarm.web.api.shared.response_body import ListOut
from botfarm.web.api.stock.pool_responses import ProjectOut
from botfarm.web.api.stock.project_requests import NewProject, ProjectPatch
from botfarm.web.http.dependencies import Caller, Farm
from botfarm.web.http.roles import needs
from botfarm.web.http.routing import api_router, raises

router = api_router("projects")


@router.post(
    "/projects",
    status_code=201,
    response_model=ProjectOut,
    responses=raises(errors.ProjectExistsError, body=True),
)
@needs(Role.ADMIN)
async def create_project(farm: Farm, caller: Caller, body: NewProject) -> Project:
    """Add a system under test, its envs and domains, and how long its users may be held."""
    return await farm.projects.create(
        caller,
        project_id=body.id,
        name=body.name,
        envs=body.envs,
        domains=body.domains,
        policy=body.policy(),
    )


@router.patch(
    "/projects/{project_id}",
    response_model=ProjectOut,
    responses=raises(
        errors.NoSuchProjectError, errors.ProjectExistsError, errors.ProjectInUseError, body=True
    ),
)
@needs(Role.ADMIN)
async def update_project(farm: Farm, caller: Caller, project_id: UUID, body: ProjectPatch) -> Project:
    """Change its name, its envs and domains or its policy; leases under way keep what they were granted."""
    return await farm.projects.update(caller, project_id, body.changes())


@router.delete(
    "/projects/{project_id}",
    status_code=204,
    responses=raises(errors.NoSuchProjectError, errors.ProjectInUseError),
)
@needs(Role.ADMIN)
async def delete_project(farm: Farm, caller: Caller, project_id: UUID) -> None:
    """Delete a project without users; its history stays."""
    await farm.projects.delete(caller, project_id)


@router.get("/projects", response_model=ListOut[ProjectOut], responses=raises())
@needs(Role.VIEWER)
async def get_projects(farm: Farm, caller: Caller) -> dict[str, list[Project]]:
    """All projects, by name."""
    return {"items": await farm.projects.list(caller.scope)}


@router.get("/projects/{project_id}", response_model=ProjectOut, responses=raises(errors.NoSuchProjectError))
@needs(Role.VIEWER)
async def get_project(farm: Farm, caller: Caller, project_id: UUID) -> Project:
    """One project."""
    return await farm.projects.get(caller.scope, project_id)
