"""What does not come to rest at the end of a search is recorded for its checker."""

import time
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from chaos import closing
from chaos.caller import Caller
from chaos.history import BREAKDOWN, Call, Fault


class Records(list[Call | Fault]):
    def add(self, record: Call | Fault) -> None:
        self.append(record)

    @property
    def breakdowns(self) -> list[str]:
        return [each.note for each in self if isinstance(each, Fault) and each.kind == BREAKDOWN]


def caller(state: str, waiting: int, records: Records) -> Caller:
    """Of a farm with one user in this state and no chores, at which so many requests wait."""

    def answer(request: httpx.Request) -> httpx.Response:
        items: list[Any] = [{"login": "ann@shop.test", "state": state}]
        if request.url.path.endswith("/waiting"):
            items = [{}] * waiting
        return httpx.Response(409 if request.url.path.endswith("/leases") else 200, json={"items": items})

    http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    return Caller("closing", "token:lead", "secret", ["http://replica-1"], http, records)


@pytest.mark.parametrize(
    ("state", "waiting", "told"),
    [
        ("free", 0, []),
        ("retired", 0, []),
        ("dirty", 0, ["did not come to rest: ann@shop.test is dirty"]),
        ("free", 2, ["did not come to rest: 2 requests wait"]),
    ],
)
async def test_what_is_left_after_the_last_deadline_is_recorded(
    state: str, waiting: int, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "LEASES_END_WITHIN", 0.0)
    records = Records()
    someone = caller(state, waiting, records)
    await closing._users_come_free(someone, someone, time.monotonic())
    assert records.breakdowns == told


@pytest.mark.parametrize(
    ("answers", "works"),
    [
        ({"/livez": 200, "/readyz": 200}, True),
        ({"/livez": 503, "/readyz": 200}, False),
        ({"/livez": 200, "/readyz": 503}, False),
        ({}, False),
    ],
)
async def test_a_worker_works_when_both_probes_say_so(answers: dict[str, int], *, works: bool) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if not answers:
            raise httpx.ConnectError("refused")
        return httpx.Response(answers[request.url.path])

    worker: Any = SimpleNamespace(origin="http://worker")
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        assert await closing._works(worker, http) == works


async def test_a_process_that_does_not_come_back_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing, "COMES_BACK_WITHIN", 0.0)
    told: list[str] = []
    process: Any = SimpleNamespace(broke_down=lambda what, _: told.append(what))

    async def is_back() -> bool:
        return False

    await closing._comes_back(process, is_back)
    assert told == ["does not come back"]
