"""The HTTP API of a fake farm, apart from the transport."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import uuid4

from botfarm_client.connection.api_calls import API, Json
from botfarm_client.testing import fake_requests
from botfarm_client.testing.fake_credentials import FakeCredentials
from botfarm_client.testing.fake_documents import FakeDocuments, totp
from botfarm_client.testing.fake_leasing import FakeLeasing
from botfarm_client.testing.fake_requests import check
from botfarm_client.testing.fake_statuses import FakeStatuses
from botfarm_client.testing.fake_stock import FakeStock
from botfarm_client.testing.fake_users import STATUSES, FakeProblem

_ID = "([0-9a-f-]{36})"
_LEASE = re.compile(rf"{API}/leases/{_ID}(?:/(renew|release|force_release))?")
_USER_OF_LEASE = re.compile(rf"{API}/leases/{_ID}/users/{_ID}(/totp|/rotation|/rotation/confirm)?")
_USER = re.compile(rf"{API}/users/{_ID}(?:/(quarantine|restore|retire))?")
_OF_CHANGE = {"quarantine": {"reason", "until"}, "restore": {"note", "clean"}, "retire": {"reason"}}


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
    def __init__(
        self, stock: FakeStock, leasing: FakeLeasing, *, token: str, project: str, project_id: str
    ) -> None:
        self._stock = stock
        self._leasing = leasing
        self._credentials = FakeCredentials(stock)
        self._statuses = FakeStatuses(stock, project_id)
        self._documents = FakeDocuments(project_id)
        self._token = token
        self._projects = {project, project_id}

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
        body = fake_requests.body_of(asked.body)
        if (asked.method, asked.path) == ("POST", f"{API}/leases"):
            return self._acquire(asked, body)
        if (asked.method, asked.path) == ("POST", f"{API}/users/bulk"):
            return 200, self._statuses.change_many(fake_requests.bulk_change(body))
        if found := _LEASE.fullmatch(asked.path):
            return 200, self._of_lease(asked.method, found[1], found[2], body)
        if found := _USER_OF_LEASE.fullmatch(asked.path):
            return 200, self._of_leased_user(f"{asked.method} {found[3] or ''}", found[1], found[2], body)
        if found := _USER.fullmatch(asked.path):
            return 200, self._of_user(asked.method, found[1], found[2], body)
        raise FakeProblem("no-such-page")

    def _acquire(self, asked: Asked, body: Json) -> tuple[int, Json]:
        wanted = fake_requests.wanted_lease(body, default_domain=self._stock.default_domain)
        project = wanted.pop("project") or wanted.pop("project_id")
        if wanted["user_id"] is None and project not in self._projects:
            raise FakeProblem("no-such-project")
        lease, is_replayed = self._leasing.acquire(
            wanted, asked.headers.get("idempotency-key"), asked.is_gone
        )
        if is_replayed:
            return 200, self._documents.lease(lease, with_credentials=True)
        return 201, self._documents.new_lease(lease)

    def _of_lease(self, method: str, lease_id: str, verb: str | None, body: Json) -> Json:
        match method, verb:
            case "GET", None:
                with self._stock.lock:
                    lease = self._stock.lease(lease_id)
                return self._documents.lease(lease, with_credentials=lease.is_live)
            case "POST", "renew":
                check(body, {"ttl_seconds"})
                lease = self._leasing.renew(lease_id, body.get("ttl_seconds"))
                return self._documents.lease(lease, with_credentials=True)
            case "POST", "release":
                return self._documents.lease(self._leasing.release(lease_id, fake_requests.release(body)))
            case "POST", "force_release":
                check(body, {"reason"}, needed={"reason"})
                return self._documents.lease(self._leasing.force(lease_id, body["reason"]))
            case _:
                raise FakeProblem("no-such-page")

    def _of_leased_user(self, what: str, lease_id: str, user_id: str, body: Json) -> Json:
        match what:
            case "GET /totp":
                with self._stock.lock:
                    return totp(self._stock.user_of(lease_id, user_id))
            case "PATCH ":
                check(body, {"password", "secrets", "session_expires_at"})
                user = self._credentials.write_back(lease_id, user_id, self._with_moments(body))
            case "POST /rotation":
                check(body, {"password"})
                return {
                    "pending_password": self._credentials.start_rotation(
                        lease_id, user_id, body.get("password")
                    )
                }
            case "POST /rotation/confirm":
                user = self._credentials.confirm_rotation(lease_id, user_id)
            case _:
                raise FakeProblem("no-such-page")
        return self._documents.leased_user(user, self._stock.lease(lease_id))

    def _of_user(self, method: str, user_id: str, action: str | None, body: Json) -> Json:
        if method == "GET" and action is None:
            with self._stock.lock:
                return self._documents.user_details(self._stock.user(user_id))
        if method != "POST" or action is None:
            raise FakeProblem("no-such-page")
        check(body, _OF_CHANGE[action], needed={"reason"} & _OF_CHANGE[action])
        return self._documents.user(self._statuses.change(user_id, action, self._with_moments(body)))

    def _with_moments(self, body: Json) -> Json:
        """The body with its moments in seconds of the SDK's clock."""
        is_moment = {"until", "session_expires_at"}
        return {
            name: self._documents.seconds(value) if name in is_moment else value
            for name, value in body.items()
        }


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
