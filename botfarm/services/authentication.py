import hmac

from botfarm.access import EVERYTHING, Principal, Role
from botfarm.errors import UnauthenticatedError

BOOTSTRAP = Principal("bootstrap", Role.ADMIN, EVERYTHING)


class Authentication:
    """Who a request comes from. For now the one token that ops gives the farm at start, which may do everything."""

    def __init__(self, bootstrap_token: str | None) -> None:
        self._bootstrap_token = bootstrap_token.encode() if bootstrap_token else None

    def principal_of(self, authorization: str | None) -> Principal:
        """Raises UnauthenticatedError unless the header is `Bearer` and a valid token."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() == "bearer" and self._is_bootstrap(token.strip()):
            return BOOTSTRAP
        raise UnauthenticatedError

    def _is_bootstrap(self, token: str) -> bool:
        """In constant time: how long a 401 takes must not tell how much of a guess is right."""
        return self._bootstrap_token is not None and hmac.compare_digest(
            token.encode(), self._bootstrap_token
        )
