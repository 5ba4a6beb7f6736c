"""The repr of an object, as in tracebacks, log lines and debuggers, has no credential in it."""

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from botfarm.crypto.api_tokens import ApiToken
from botfarm.crypto.key_ring import KeyRing, generate_key
from botfarm.db.access import operator_queries, token_queries
from botfarm.db.shared.tables import OperatorRow, TokenRow, UserRow
from botfarm.db.stock import user_queries
from botfarm.domain.access import EVERYTHING, Operator, Principal, Role, Token
from botfarm.domain.credentials import SealedCredentials, TotpCode
from botfarm.domain.leases import LeasedUser
from botfarm.domain.pools import Pool
from botfarm.domain.users import UserChanges, UserLine
from botfarm.services.access.sessions import Badge
from botfarm.services.access.tokens import MadeToken
from botfarm.services.upkeep.key_rotation import rotate_ring
from botfarm.settings import Settings
from botfarm.web.api.access.access_requests import SignIn
from botfarm.web.api.access.access_responses import MadeTokenOut
from botfarm.web.api.leasing.lease_requests import WriteBack
from botfarm.web.api.leasing.lease_responses import LeasedUserOut, TotpOut
from botfarm.web.api.stock.user_requests import NewUser, UserPatch
from botfarm_client import Botfarm, Lease
from botfarm_client.connection.api_calls import Call
from botfarm_client.connection.farm_settings import FarmSettings
from botfarm_client.connection.http_messages import FarmRequests
from botfarm_client.leasing.acquiring import Grant
from botfarm_client.testing import FakeFarm, FakeUser

CANARY = "canary-f00d"
SECRETS = {CANARY: CANARY}
SEED = "JBSWY3DPEHPK3PXP"
HASH = CANARY.encode()
KEY = generate_key("k1")
POOL = Pool(UUID(int=1), "stage", "regular")
SEALED = SealedCredentials(CANARY, CANARY, CANARY, CANARY)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def leased_user() -> LeasedUser:
    return LeasedUser(uuid4(), "u", POOL, NOW, {}, SEALED, CANARY, SECRETS, TotpCode(CANARY, (NOW, NOW), 1.0))


def made_token() -> MadeToken:
    token = Token("id", "ci", Role.RUNNER, EVERYTHING, None, NOW, "ann", None, None, None)
    return MadeToken(token, CANARY)


HOLDERS: dict[str, Callable[[], object]] = {
    "LeasedUser": leased_user,
    "UserLine": lambda: UserLine(1, "u", CANARY, POOL, {}, SECRETS, CANARY),
    "UserChanges": lambda: UserChanges(password=CANARY, secrets=SECRETS, totp_seed=CANARY),
    "SealedCredentials": lambda: SEALED,
    "a new user": lambda: user_queries.NewUser(uuid4(), "u", "u", SEALED, POOL, "{}"),
    "a locked user": lambda: user_queries.LockedUser(
        "u", POOL, SEALED, False, UserRow(password=CANARY, secrets=CANARY)
    ),
    "TotpCode": lambda: TotpCode(CANARY, (NOW, NOW), 1.0),
    "ApiToken": lambda: ApiToken("id", CANARY),
    "MadeToken": made_token,
    "LiveToken": lambda: token_queries.LiveToken(Principal("p", Role.ADMIN, EVERYTHING), HASH, None),
    "a new token": lambda: token_queries.NewToken(
        "id", HASH, "ci", Role.RUNNER, EVERYTHING, None, None, None, "ann"
    ),
    "an operator's hash": lambda: operator_queries.Credentials(
        Operator(uuid4(), "ann", Role.ADMIN, EVERYTHING, NOW, None), CANARY
    ),
    "Badge": lambda: Badge(CANARY, 1.0),
    "KeyRing": lambda: KeyRing.parse(KEY),
    "NextRing": lambda: rotate_ring(KEY, None),
    "Settings": lambda: Settings(
        database_url=f"postgresql://u:{CANARY}@h/d", encryption_keys=KEY, bootstrap_token=CANARY * 3
    ),
    "rows": lambda: (
        UserRow(password=CANARY, secrets=CANARY, totp_seed=CANARY),
        TokenRow(secret_hash=HASH),
        OperatorRow(password_hash=CANARY),
    ),
    "create_user": lambda: NewUser(
        login="u@x.test", password=CANARY, project_id=uuid4(), env="stage", domain="regular", secrets=SECRETS,
        totp_seed=SEED,
    ),
    "update_user": lambda: UserPatch(password=CANARY, secrets=SECRETS, totp_seed=SEED),
    "write_back": lambda: WriteBack(password=CANARY, secrets=SECRETS),
    "login": lambda: SignIn(name="ann", password=CANARY),
    "the answer of acquire_lease": lambda: LeasedUserOut.model_validate(leased_user()),
    "the answer of get_totp": lambda: TotpOut(code=CANARY, expires_in=1.0),
    "the answer of create_token": lambda: MadeTokenOut.model_validate(made_token()),
}  # fmt: skip


def released() -> Lease:
    with FakeFarm([FakeUser("u", CANARY, secrets=SECRETS, totp=CANARY)]).botfarm() as farm:
        return farm.acquire()


GRANTED = {
    "id": "x", "fence": 1, "expires_in": 9.0, "expires_at": "a", "hold_until": "b",
    "users": [
        {"id": "y", "login": "u", "password": CANARY, "pending_password": CANARY, "secrets": SECRETS, "labels": {}}
    ],
}  # fmt: skip
HOLDERS |= {
    "FarmSettings": lambda: FarmSettings.of("http://farm.test", CANARY),
    "a client's token": lambda: (
        FarmRequests("http://farm.test", CANARY),
        vars(Botfarm("http://farm.test", CANARY)),
    ),
    "a call": lambda: Call(method="PATCH", path="/", json={"password": CANARY, "secrets": SECRETS}),
    "Grant": lambda: Grant(GRANTED, 0.0, "shop/stage/regular"),
    "a lease that is held": released,
    "a user of the fake farm": lambda: FakeUser("u", CANARY, secrets=SECRETS, totp=CANARY),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_an_object_with_a_credential_does_not_show_it(holder: str) -> None:
    shown = repr(HOLDERS[holder]()) + str(HOLDERS[holder]())
    for secret in (CANARY, SEED, repr(HASH), KEY.partition(":")[2]):
        assert secret not in shown
