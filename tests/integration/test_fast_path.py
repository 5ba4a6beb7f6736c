"""The express lane does an operation once, also when something stored does not fit."""

import asyncio
import json
from urllib.parse import urlsplit

import httpx
import pytest

from support.app import on_a_socket
from support.farm import TOKEN, Farm, test_settings
from support.http import LEASE, assert_problem, create_project, create_user


async def test_an_answer_that_does_not_fit_is_an_error_and_one_lease(
    api: httpx.AsyncClient, farm: Farm, database_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    project_id = await create_project(api)
    for _ in range(2):
        await create_user(api, project_id)
    await farm.sql.execute("""UPDATE users SET labels = '{"canary-key": 90210555}'""")
    async with on_a_socket(test_settings(database_url)) as url:
        status_line = await post_in_one_segment(url, "/api/v1/leases", LEASE)
    assert status_line.split()[1] == b"500"
    assert await farm.sql.fetchval("SELECT count(*) FROM leases") == 1
    assert "90210555" not in "".join(capfd.readouterr())


async def post_in_one_segment(url: str, path: str, body: object) -> bytes:
    """The body comes with the head, which is what the lane is for; HTTP clients send two segments. Gives the status line."""
    address = urlsplit(url)
    content = json.dumps(body)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write((head + content).encode())
    answer = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    await writer.wait_closed()
    return answer.partition(b"\r\n")[0]


@pytest.mark.parametrize("stored", ['["hunter2-canary"]', "hunter2-canary"])
async def test_a_user_with_secrets_that_cannot_be_read_is_given_back(
    api: httpx.AsyncClient, farm: Farm, capfd: pytest.CaptureFixture[str], stored: str
) -> None:
    user = await create_user(api, await create_project(api))
    sealed = farm.services.users._key_ring.encrypt(stored, row_id=user["id"], field="secrets")
    await farm.sql.execute("UPDATE users SET secrets = $1", sealed)
    assert_problem(await api.post("/leases", json=LEASE), 500, "internal")
    leases = (await api.get("/leases")).json()["items"]
    assert [(bool(lease["ended_at"]), lease["outcome"]) for lease in leases] == [(True, "broken")]
    assert (await api.get(f"/users/{user['id']}")).json()["state"] == "resting"
    assert "hunter2-canary" not in "".join(capfd.readouterr())
