"""Checks the caller of a waiting request again, before users are granted to it."""

from botfarm.domain.access import Principal
from botfarm.errors import UnauthenticatedError
from botfarm.services.access.sessions import Sessions
from botfarm.services.access.token_authentication import TokenAuthentication


class CredentialCheck:
    def __init__(self, authentication: TokenAuthentication, sessions: Sessions) -> None:
        self._authentication = authentication
        self._sessions = sessions

    async def check(self, principal: Principal) -> None:
        """Raises UnauthenticatedError when the token or the session of the principal has ended."""
        if principal.token_id is not None and not await self._authentication.is_in_force(principal.token_id):
            raise UnauthenticatedError
        if principal.session_id is not None and not await self._sessions.is_live(principal.session_id):
            raise UnauthenticatedError("The session has ended: sign in again.")
