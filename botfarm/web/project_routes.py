from uuid import UUID

from botfarm import errors
from botfarm.domain import LeasePolicy, Project
from botfarm.web.dependencies import Farm
from botfarm.web.requests import NewProject
from botfarm.web.responses import ListOut, ProjectOut
from botfarm.web.routing import api_router, raises

router = api_router("projects")


@router.post(
    "/projects",
    status_code=201,
    response_model=ProjectOut,
    responses=raises(errors.ProjectExistsError, body=True),
)
async def create_project(farm: Farm, body: NewProject) -> Project:
    policy = LeasePolicy(
        default_ttl=body.default_ttl,
        max_ttl=body.max_ttl,
        max_hold=body.max_hold,
        lock_delay=body.lock_delay,
        cooldown=body.cooldown,
    )
    return await farm.projects.create(project_id=body.id, name=body.name, policy=policy)


@router.get("/projects", response_model=ListOut[ProjectOut], responses=raises())
async def get_projects(farm: Farm) -> dict[str, list[Project]]:
    return {"items": await farm.projects.list()}


@router.get("/projects/{project_id}", response_model=ProjectOut, responses=raises(errors.NoSuchProjectError))
async def get_project(farm: Farm, project_id: UUID) -> Project:
    return await farm.projects.get(project_id)
