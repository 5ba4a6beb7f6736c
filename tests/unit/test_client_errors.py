import httpx
import pytest

from botfarm_client.commands.shared.command_errors import CommandError, command_error
from botfarm_client.commands.shared.farm_access import open_farm
from botfarm_client.connection.connection import Connection
from botfarm_client.connection.http_messages import failure, no_farm
from botfarm_client.errors import BotfarmError, ProblemError, UnexpectedAnswerError, problem_error

URL = "http://farm.test"


def problem(status: int, slug: str, **details: object) -> ProblemError:
    common = {"title": "Title", "status": status, "request_id": "the-id"}
    return problem_error(
        status,
        {"type": f"urn:botfarm:problem:{slug}", "detail": "It is so.", **common, **details},
    )


@pytest.mark.parametrize(
    ("error", "exit_code", "line"),
    [
        (problem(401, "unauthenticated"), 1, "the farm does not know this token: set BOTFARM_TOKEN"),
        (
            problem(403, "forbidden"),
            1,
            "It is so: set BOTFARM_TOKEN to a token that may do this, or ask for another role",
        ),
        (problem(403, "not-the-holder"), 1, "It is so"),
        (problem(404, "no-such-user"), 4, "It is so"),
        (problem(404, "no-such-token"), 4, "It is so"),
        (problem(409, "user-busy", expires_in=75.2, locktime=None), 5, "It is so (expires_in 1m15s)"),
        (
            problem(409, "pool-exhausted", total=5, next_free_in=41.7),
            5,
            "It is so (total 5; next_free_in 42s)",
        ),
        (problem(410, "lease-lapsed"), 6, "It is so"),
        (problem(413, "too-large"), 1, "this is more than the farm takes at once: split it"),
        (
            problem(
                422, "invalid-request", errors=[{"field": "a", "message": "b"}, {"field": "c", "code": "d"}]
            ),
            1,
            "a: b; c: d",
        ),
        (problem(429, "slow-down"), 5, "It is so"),
        (problem(429, "quota-exceeded", held=3, max_leases=3), 5, "It is so (held 3; max_leases 3)"),
        (problem(500, "internal"), 1, "It is so (request_id the-id)"),
        (problem(503, "shutting-down"), 7, "It is so (request_id the-id)"),
        (problem(409, "user-busy", by="\x1b[2J\n"), 5, r"It is so (by \x1b[2J\n)"),
        (
            problem(404, "no-such-page"),
            1,
            f"{URL} answered 404 (It is so), not as a farm does: check BOTFARM_URL",
        ),
        (
            ProblemError(418, {"detail": "I'm a teapot"}),
            1,
            f"{URL} answered 418 (I'm a teapot), not as a farm does: check BOTFARM_URL",
        ),
        (
            ProblemError(404, {"detail": "Not Found"}),
            1,
            f"{URL} answered 404 (Not Found), not as a farm does: check BOTFARM_URL",
        ),
        (
            ProblemError(502, {"detail": "Bad Gateway"}),
            7,
            f"the farm at {URL} is not available: 502 Bad Gateway",
        ),
        (no_farm(URL), 1, f"what answers at {URL} is no farm: check BOTFARM_URL"),
        (
            failure(httpx.ConnectError("[Errno 111] Connection refused"), URL),
            7,
            f"cannot reach the farm at {URL}: is it running? set BOTFARM_URL",
        ),
        (
            failure(httpx.ConnectTimeout(""), URL),
            7,
            f"cannot reach the farm at {URL} (timed out): is it running? set BOTFARM_URL",
        ),
        (failure(httpx.ReadTimeout(""), URL), 7, f"the farm at {URL} did not answer in time: try again"),
        (
            failure(httpx.RemoteProtocolError(""), URL),
            7,
            f"the connection to the farm at {URL} broke: try again",
        ),
    ],
)
def test_a_failure_is_one_line_and_one_exit_code(error: BotfarmError, exit_code: int, line: str) -> None:
    explained = command_error(error, URL)
    assert (str(explained), explained.exit_code) == (line, exit_code)


@pytest.fixture
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOTFARM_TOKEN", "token")


@pytest.mark.usefixtures("_token")
@pytest.mark.parametrize(
    "url",
    [
        "",
        "farm:8000",
        "ftp://farm",
        "http://a..b",
        "http://xn--a",
        "http://",
        "http://u:pw@farm",
        "http://f?x",
        "http://f/api?",
        "http://f#",
        "http://f pw",
        "http://f%20pw",
        "http://f/a pw",
        "http://farm:0",
        "http://farm:99999",
    ],
)
def test_an_invalid_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(CommandError, match="BOTFARM_URL") as raised, open_farm(url):
        pass
    assert raised.value.exit_code == 2
    assert "pw" not in str(raised.value)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "set BOTFARM_TOKEN"),
        ({"BOTFARM_TOKEN": " "}, "set BOTFARM_TOKEN"),
        ({"BOTFARM_TOKEN": "se\ncret"}, "characters that no token has"),
        ({"BOTFARM_TOKEN": "sécret"}, "characters that no token has"),
        ({"BOTFARM_TOKEN_FILE": "/no/such/file"}, "cannot read the file of BOTFARM_TOKEN_FILE: No such file"),
    ],
)
def test_an_invalid_token_is_one_line(
    environment: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BOTFARM_TOKEN", "BOTFARM_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(CommandError, match=message) as raised, open_farm(URL):
        pass
    assert "cret" not in str(raised.value)


def test_pages_are_followed_up_to_the_limit() -> None:
    asked: list[tuple[str, str | None]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        limit, cursor = request.url.params["limit"], request.url.params.get("cursor")
        asked.append((limit, cursor))
        start = int(cursor or 0)
        end = min(start + int(limit), 2_500)
        items = [{"id": number} for number in range(start, end)]
        return httpx.Response(200, json={"items": items, "next_cursor": str(end) if end < 2_500 else None})

    transport = httpx.MockTransport(answer)
    with Connection(URL, "token", transport=transport) as farm:
        items, more = farm.pages("/users", limit=1_200)
        assert (len(items), more) == (1_200, True)
        assert asked == [("1000", None), ("200", "1000")]
        assert [len(items) for items, more in [farm.pages("/users", limit=None)] if not more] == [2_500]
        items, more = farm.pages("/users", limit=2_500)
        assert (items[-1], more) == ({"id": 2_499}, False)


@pytest.mark.parametrize("answer", [httpx.Response(200, text="<html>"), httpx.Response(200, json=[1])])
def test_an_answer_of_another_server_is_noticed(answer: httpx.Response) -> None:
    transport = httpx.MockTransport(lambda _: answer)
    with Connection(URL, "token", transport=transport) as farm, pytest.raises(UnexpectedAnswerError):
        farm.items("/pools")
