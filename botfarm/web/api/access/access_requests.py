"""Bodies about tokens and sessions."""

from typing import Annotated

from pydantic import Field

from botfarm.domain.access import Role
from botfarm.web.api.shared.fields import Integer, MaxLeases, Password, Text, TokenName
from botfarm.web.api.shared.request_body import RequestBody, ScopedBody


class NewToken(ScopedBody):
    name: TokenName
    role: Role
    max_leases: MaxLeases = None
    expires_in: Annotated[
        Integer | None,
        Field(
            ge=1,
            le=315_360_000,
            description="Seconds; null: it does not expire. Absent: 90 days when an operator makes it, "
            "else it does not expire. What a token makes ends with it at the latest.",
        ),
    ] = None

    def chosen_life(self, *, default: int | None) -> int | None:
        return self.expires_in if "expires_in" in self.model_fields_set else default


class SignIn(RequestBody):
    name: Annotated[Text, Field(min_length=1, max_length=320)]
    password: Password
