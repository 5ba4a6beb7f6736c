"""The HTTP API of a fake farm, apart from the transport."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from botfarm_client.connection.api_calls import API, Json
from botfarm_client.shared import clock
from botfarm_client.testing.fake_leasing import FakeLeasing
from botfarm_client.testing.fake_users import STATUSES, FakeLease, FakeProblem, FakeUser

_LEASE = re.compile(rf"{API}/leases/([0-9a-f-]{{36}})(?:/(renew|release|force_release))?")
_USER = re.compile(rf"{API}/leases/([0-9a-f-]{{36}})/users/([0-9a-f-]{{36}})(/totp)?")
_DEFAULTS: Mapping[str, Any] = {
    "project": None,
    "project_id": None,
    "env": None,
    "domain": "regular",
    "labels": {},
    "count": 1,
    "ttl_seconds": None,
    "wait_seconds": 0,
    "priority": 0,
    "owner": None,
    "metadata": {},
}
_RANGES = {"count": (1, 100), "ttl_seconds": (1, 86_400), "wait_seconds": (0, 300), "priority": (-10, 10)}
_CHOICES = {
    "env": {"prod", "preprod", "stage"},
    "domain": {"canary", "regular"},
    "outcome": {"ok", "dirty", "broken"},
}


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: Mapping[str, str]
    """By names in lower case."""
    body: bytes
    is_gone: Callable[[], bool]
    """Whether the caller has hung up."""


@dataclass(frozen=True)
class Answered:
    status: int
    document: Json
    headers: Mapping[str, str]


class FakeApi:
    def __init__(self, leasing: FakeLeasing, *, token: str, project: str, project_id: str) -> None:
        self._leasing = leasing
        self._token = token
        self._project = project
        self._project_id = project_id
        self._zero = datetime.now(UTC) - timedelta(seconds=clock.now())

    def answer(self, asked: Asked) -> Answered:
        try:
            self._let_in(asked)
            status, document = self._answer(asked)
        except FakeProblem as problem:
            return answered_problem(problem)
        return Answered(status, document, {"content-type": "application/json"})

    def _let_in(self, asked: Asked) -> None:
        if asked.headers.get("authorization") != f"Bearer {self._token}":
            raise FakeProblem("unauthenticated")

    def _answer(self, asked: Asked) -> tuple[int, Json]:
        body = _body(asked.body)
        if (asked.method, asked.path) == ("POST", f"{API}/leases"):
            wanted = self._wanted(body)
            lease, is_replayed = self._leasing.acquire(
                wanted, asked.headers.get("idempotency-key"), asked.is_gone
            )
            return 200 if is_replayed else 201, self._lease(lease, with_credentials=True)
        if found := _LEASE.fullmatch(asked.path):
            return 200, self._of_lease(asked.method, found[1], found[2], body)
        if found := _USER.fullmatch(asked.path):
            user = self._leasing.user_of(found[1], found[2])
            if (asked.method, found[3]) == ("GET", "/totp"):
                return 200, _totp(user)
            if (asked.method, found[3]) == ("PATCH", None):
                return 200, self._written_back(user, body)
        raise FakeProblem("no-such-page")

    def _of_lease(self, method: str, lease_id: str, verb: str | None, body: Json) -> Json:
        match method, verb:
            case "GET", None:
                lease = self._leasing.found(lease_id)
                return self._lease(lease, with_credentials=lease.is_live)
            case "POST", "renew":
                _check(body, {"ttl_seconds"})
                lease = self._leasing.renew(lease_id, body.get("ttl_seconds"))
                return self._lease(lease, with_credentials=True)
            case "POST", "release":
                _check(body, {"outcome", "reason", "note", "users"})
                return self._lease(self._leasing.release(lease_id, body))
            case "POST", "force_release":
                return self._lease(self._leasing.force(lease_id, body["reason"]))
            case _:
                raise FakeProblem("no-such-page")

    def _wanted(self, body: Json) -> Json:
        _check(body, set(_DEFAULTS))
        wanted = {**_DEFAULTS, **body}
        project, project_id = wanted.pop("project"), wanted.pop("project_id")
        if (project is None) == (project_id is None):
            raise _invalid("project", "give either project_id or project")
        if (project or project_id) not in {self._project, self._project_id}:
            raise FakeProblem("no-such-project")
        return wanted

    def _written_back(self, user: FakeUser, body: Json) -> Json:
        _check(body, {"password", "secrets"})
        user.password = body.get("password", user.password)
        merged = {**user.secrets, **body.get("secrets", {})}
        user.secrets = {name: value for name, value in merged.items() if value is not None}
        return self._user(user, with_credentials=True)

    def _lease(self, lease: FakeLease, *, with_credentials: bool = False) -> Json:
        return {
            "id": lease.id,
            "project_id": self._project_id,
            "env": lease.env,
            "domain": lease.domain,
            "fence": lease.fence,
            "purpose": "test",
            "owner": lease.owner,
            "metadata": dict(lease.metadata),
            "acquired_at": self._moment(lease.acquired_at),
            "expires_at": self._moment(lease.expires_at),
            "expires_in": max(0.0, lease.expires_at - clock.now()) if lease.is_live else 0.0,
            "ttl_seconds": lease.ttl,
            "hold_until": self._moment(lease.hold_until),
            "ended_at": None if lease.ended_at is None else self._moment(lease.ended_at),
            "ended_by": lease.ended_by,
            "outcome": lease.outcome,
            "reason": lease.reason,
            "note": lease.note,
            "requested_at": self._moment(lease.acquired_at - lease.waited),
            "waited": lease.waited,
            "labels": dict(lease.labels),
            "users": [
                {
                    **self._user(user, with_credentials=with_credentials),
                    **lease.verdicts.get(user.id, {}),
                }
                for user in lease.users
            ],
        }

    def _user(self, user: FakeUser, *, with_credentials: bool) -> Json:
        document = {
            "id": user.id,
            "project_id": self._project_id,
            "env": user.env,
            "domain": user.domain,
            "login": user.login,
            "locktime": self._moment(user.lease.acquired_at) if user.lease and user.lease.is_live else None,
            "labels": dict(user.labels),
        }
        if with_credentials:
            document["password"] = user.password
            if user.secrets:
                document["secrets"] = dict(user.secrets)
            if user.totp:
                document["totp"] = _totp(user)
        return document

    def _moment(self, seconds: float) -> str:
        return (self._zero + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def answered_problem(problem: FakeProblem) -> Answered:
    status = STATUSES[problem.slug]
    document = {
        "type": f"urn:botfarm:problem:{problem.slug}",
        "title": problem.slug.replace("-", " ").capitalize(),
        "status": status,
        "detail": "A fake farm says so.",
        "request_id": uuid4().hex,
        **problem.details,
    }
    headers = {"content-type": "application/problem+json"}
    if problem.retry_after is not None:
        headers["retry-after"] = str(problem.retry_after)
    return Answered(status, document, headers)


def _body(content: bytes) -> Json:
    try:
        body = json.loads(content) if content else {}
    except ValueError:
        raise FakeProblem("malformed-json") from None
    if not isinstance(body, dict):
        raise _invalid("body", "Input should be an object")
    return body


def _check(body: Json, known: set[str]) -> None:
    for name, value in body.items():
        if name not in known:
            raise _invalid(name, "Extra inputs are not permitted")
        if name in _RANGES and value is not None:
            least, most = _RANGES[name]
            if not isinstance(value, int) or not least <= value <= most:
                raise _invalid(name, f"Input should be from {least} to {most}")
        if name in _CHOICES and value not in _CHOICES[name]:
            raise _invalid(name, f"Input should be one of {sorted(_CHOICES[name])}")


def _invalid(field: str, message: str) -> FakeProblem:
    return FakeProblem("invalid-request", errors=[{"field": field, "code": "invalid", "message": message}])


def _totp(user: FakeUser) -> Json:
    if user.totp is None:
        raise FakeProblem("no-such-user")
    return {"code": user.totp, "expires_in": 30.0}
