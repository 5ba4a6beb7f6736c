"""The express lane does an operation once, also when something stored does not fit."""

import httpx
import pytest

from support.farm import Farm
from support.http import LEASE, assert_problem, create_project, create_user


async def test_an_answer_that_does_not_fit_is_an_error_and_one_lease(
    api: httpx.AsyncClient, farm: Farm, capfd: pytest.CaptureFixture[str]
) -> None:
    project_id = await create_project(api)
    for _ in range(2):
        await create_user(api, project_id)
    await farm.sql.execute("""UPDATE users SET labels = '{"canary-key": 90210555}'""")
    assert_problem(await api.post("/leases", json=LEASE), 500, "internal")
    assert await farm.sql.fetchval("SELECT count(*) FROM leases") == 1
    assert "90210555" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("stored", ['["hunter2-canary"]', "hunter2-canary"])
async def test_a_user_with_secrets_that_cannot_be_read_is_given_back(
    api: httpx.AsyncClient, farm: Farm, capfd: pytest.CaptureFixture[str], stored: str
) -> None:
    user = await create_user(api, await create_project(api))
    sealed = farm.services.users._key_ring.encrypt(stored, row_id=user["id"], field="secrets")
    await farm.sql.execute("UPDATE users SET secrets = $1", sealed)
    assert_problem(await api.post("/leases", json=LEASE), 500, "internal")
    leases = (await api.get("/leases")).json()["items"]
    assert [(bool(lease["released_at"]), lease["outcome"]) for lease in leases] == [(True, "broken")]
    assert (await api.get(f"/users/{user['id']}")).json()["state"] == "resting"
    assert "hunter2-canary" not in "".join(capfd.readouterr())
