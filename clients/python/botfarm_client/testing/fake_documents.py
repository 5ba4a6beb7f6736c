"""The answers of a fake farm as JSON."""

from datetime import UTC, datetime, timedelta

from botfarm_client.connection.api_calls import Json
from botfarm_client.shared import clock
from botfarm_client.testing.fake_state import state
from botfarm_client.testing.fake_statuses import PRINCIPAL
from botfarm_client.testing.fake_users import FakeLease, FakeProblem, FakeUser


class FakeDocuments:
    def __init__(self, project_id: str) -> None:
        self._project_id = project_id
        self._zero = datetime.now(UTC) - timedelta(seconds=clock.now())

    def new_lease(self, lease: FakeLease) -> Json:
        document = self.lease(lease, with_credentials=True)
        for shown, user in zip(document["users"], lease.users, strict=True):
            shown.update({"totp": totp(user)} if user.totp else {})
        return document

    def lease(self, lease: FakeLease, *, with_credentials: bool = False) -> Json:
        return {
            "id": lease.id,
            "project_id": self._project_id,
            "env": lease.env,
            "domain": lease.domain,
            "fence": lease.fence,
            "purpose": lease.purpose,
            "owner": lease.owner,
            "metadata": dict(lease.metadata),
            "acquired_at": self._moment(lease.acquired_at),
            "expires_at": self._moment(lease.expires_at),
            "expires_in": max(0.0, lease.expires_at - clock.now()) if lease.is_live else 0.0,
            "ttl_seconds": lease.ttl,
            "hold_until": self._moment(lease.hold_until),
            "ended_at": self._moment(lease.ended_at),
            "ended_by": lease.ended_by,
            "outcome": lease.outcome,
            "reason": lease.reason,
            "note": lease.note,
            "requested_at": self._moment(lease.acquired_at - lease.waited),
            "waited": lease.waited,
            "labels": dict(lease.labels),
            "users": [
                {
                    **self.leased_user(user, lease, with_credentials=with_credentials),
                    **lease.verdicts.get(user.id, {}),
                }
                for user in lease.users
            ],
        }

    def leased_user(self, user: FakeUser, lease: FakeLease, *, with_credentials: bool = True) -> Json:
        document = self._user_of_pool(user)
        if lease.due.get(user.id):
            document["due"] = lease.due[user.id]
        if with_credentials:
            document["password"] = user.password
            if user.pending_password is not None and lease.purpose != "test":
                document["pending_password"] = user.pending_password
            if user.secrets:
                document["secrets"] = dict(user.secrets)
        return document

    def user(self, user: FakeUser) -> Json:
        live = user.live_lease
        return {
            **self._user_of_pool(user),
            "created_at": self._moment(user.created_at),
            "state": state(user),
            "expires_at": self._moment(live.expires_at if live else None),
            "available_at": self._moment(user.available_at),
            "lease_id": user.lease.id if user.lease else None,
            "status": user.status,
            "status_reason": user.status_reason,
            "status_since": self._moment(user.status_since),
            "status_by": user.status_by,
            "status_until": self._moment(user.status_until),
            "health": user.health,
            "health_reason": user.health_reason,
            "checked_at": self._moment(user.checked_at),
            "healthy_at": self._moment(user.healthy_at),
            "failures": user.failures,
            "rotated_at": self._moment(user.rotated_at),
            "is_rotating": user.pending_password is not None,
            "session_expires_at": self._moment(user.session_expires_at),
            "has_secrets": bool(user.secrets),
            "has_totp": user.totp is not None,
            "managed_by": None,
        }

    def user_details(self, user: FakeUser) -> Json:
        names = {
            "id", "fence", "owner", "metadata", "acquired_at", "expires_at", "ended_at", "ended_by", "outcome", "note",
        }  # fmt: skip
        last = (
            {name: value for name, value in self.lease(user.lease).items() if name in names}
            if user.lease
            else {}
        )
        return {**self.user(user), "last_lease": {**last, "principal": PRINCIPAL} if last else None}

    def seconds(self, moment: str | None) -> float | None:
        """A moment of a request, in seconds of the SDK's clock."""
        return None if moment is None else (datetime.fromisoformat(moment) - self._zero).total_seconds()

    def _user_of_pool(self, user: FakeUser) -> Json:
        live = user.live_lease
        return {
            "id": user.id,
            "project_id": self._project_id,
            "env": user.env,
            "domain": user.domain,
            "login": user.login,
            "locktime": self._moment(live.acquired_at if live else None),
            "labels": dict(user.labels),
        }

    def _moment(self, seconds: float | None) -> str | None:
        if seconds is None:
            return None
        return (self._zero + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def totp(user: FakeUser) -> Json:
    if user.totp is None:
        raise FakeProblem("no-such-user")
    return {"code": user.totp, "expires_in": 30.0}
