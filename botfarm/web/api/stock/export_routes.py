from botfarm import errors
from botfarm.domain.access import Role
from botfarm.domain.paging import Page
from botfarm.domain.users import ExportedUser
from botfarm.web.api.shared.response_body import PageOut
from botfarm.web.api.stock.user_file_responses import ExportedUserOut
from botfarm.web.api.stock.user_requests import ExportRequest
from botfarm.web.http.dependencies import Caller, Farm
from botfarm.web.http.roles import needs
from botfarm.web.http.routing import api_router, raises

router = api_router("users")


@router.post(
    "/users/export",
    response_model=PageOut[ExportedUserOut],
    responses=raises(errors.KeyMissingError, body=True),
)
@needs(Role.MANAGER)
async def export_users(farm: Farm, caller: Caller, body: ExportRequest) -> Page[ExportedUser]:
    """The users that match, page by page, as an import takes them. Credentials need the role admin."""
    return await farm.exporting.export_users(
        caller, body.chosen(), with_credentials=body.credentials, cursor=body.cursor, limit=body.limit
    )
