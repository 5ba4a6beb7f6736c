"""How many users a pool needs: what the API says of a history that the test has written."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from benchmarks.fortnight import fortnight, write
from botfarm.domain.pools import Pool
from support.farm import Farm
from support.time_travel import pass_time


def yesterday_at_ten() -> datetime:
    return datetime.now(UTC).replace(hour=10, minute=0, second=0, microsecond=0) - timedelta(days=1)


async def leased(
    farm: Farm,
    pool: Pool,
    *,
    after: float = 0,
    hold: float = 60,
    users: int = 1,
    labels: dict[str, str] | None = None,
    choices: dict[str, list[str] | None] | None = None,
    ended_by: str = "released",
    purpose: str = "test",
) -> None:
    """A lease of yesterday, asked for so many seconds after ten o'clock."""
    acquired = yesterday_at_ten() + timedelta(seconds=after)
    ended = acquired + timedelta(seconds=hold)
    await farm.sql.execute(
        """INSERT INTO leases (fence, principal, operation, purpose, project_id, env, domain, user_ids, acquired_at,
                               expires_at, ttl_seconds, hold_until, ended_at, ended_by, requested_at, labels, waited,
                               priority, wait_seconds, choices)
           VALUES (nextval('fence'), 'runner', 'acquire_lease', $1, $2, $3, $4, $5, $6, $7, 60, $7, $7, $8, $6, $9, 0,
                   0, 0, $10)""",
        *(purpose, pool.project_id, pool.env, pool.domain, [uuid4() for _ in range(users)]),
        *(acquired, ended, ended_by, json.dumps(labels or {}), choices and json.dumps(choices)),
    )


async def refused(
    farm: Farm,
    pool: Pool,
    *,
    result: str = "exhausted",
    requests: int = 1,
    waited: float = 0,
    wait_seconds: float = 0,
    labels: dict[str, str] | None = None,
) -> None:
    """Requests of yesterday at ten that got no user."""
    await farm.sql.execute(
        """INSERT INTO refused_requests (minute, project_id, env, domain, purpose, result, labels, count, priority,
                                         wait_seconds, requests, waited, longest_wait)
           VALUES ($1, $2, $3, $4, 'test', $5, $6, 1, 0, $7, $8, $9, $10)""",
        *(
            yesterday_at_ten(),
            pool.project_id,
            pool.env,
            pool.domain,
            result,
            json.dumps(labels or {}),
        ),
        *(wait_seconds, requests, waited * requests, waited),
    )


async def ask(api: httpx.AsyncClient, pool: Pool, **query: object) -> dict[str, Any]:
    answer = await api.get("/capacity", params={"project_id": str(pool.project_id), **query})
    assert answer.status_code == 200, answer.text
    (item,) = answer.json()["items"]
    return dict(item)


async def test_a_fortnight_of_office_hours_needs_what_the_shape_needs(
    farm: Farm, api: httpx.AsyncClient
) -> None:
    """49 to 51, within one: computed for bursts of 16 in eight of 24 hours, with 60 leases an hour of 6 minutes."""
    pool = await farm.pool(40)
    rows = await farm.sql.fetch("SELECT id FROM users WHERE project_id = $1 ORDER BY id", pool.project_id)
    history = fortnight(users=40, until=datetime.now(UTC))
    where = {"project_id": pool.project_id, "env": "stage", "domain": "regular"}
    await write(farm.sql, history, **where, user_ids=[row["id"] for row in rows])
    answer = await ask(api, pool)
    assert 48 <= answer["needed"] <= 52
    assert answer["in_service"] == 40
    assert 10 <= answer["erlang_c"] <= 12
    assert answer["imputed"] == len(history.refused) > 0
    assert answer["rest_costs"] == 0
    sizes = {size["users"]: size for size in answer["sizes"]}
    assert sizes[40]["share_over_goal"] > 0.05
    assert sizes[answer["needed"]]["share_over_goal"] <= 0.05
    assert sizes[answer["needed"]]["p95"] <= 30
    day = datetime.fromisoformat(answer["worst_day"])
    assert answer["advice"] == (
        f"stage/regular: 40 in service, {answer['needed']} would keep 95 % of waits under 30 s "
        f"(worst day {day.day} {day:%b})"
    )
    assert await ask(api, pool) == answer, "the same history gives the same answer"


async def test_a_burst_needs_a_user_for_each_request(farm: Farm, api: httpx.AsyncClient) -> None:
    pool = await farm.pool(2, cooldown=30)
    for after in (0, 0, 0, 65, 65, 65):
        await leased(farm, pool, after=after)
    answer = await ask(api, pool)
    assert (answer["in_service"], answer["needed"], answer["rest_costs"]) == (2, 3, 0)
    answer = await ask(api, pool, goal_seconds=0)
    assert (answer["needed"], answer["rest_costs"]) == (6, 3)
    assert answer["advice"].startswith(
        "stage/regular: 2 in service, 6 would keep 95 % of waits at 0 s (worst day "
    )
    assert (answer["requests"], answer["days"], answer["imputed"]) == (6, 1, 0)
    assert answer["limits"][0] == (
        "The answer is at most as good as the last 14 days: 1 day with requests, 6 requests."
    )


async def test_a_pool_that_is_too_large_says_how_many_were_never_needed(
    farm: Farm, api: httpx.AsyncClient
) -> None:
    pool = await farm.pool(5, cooldown=30)
    for after in (0, 65, 95, 95):
        await leased(farm, pool, after=after)
    answer = await ask(api, pool, goal_seconds=0)
    assert answer["needed"] == 3
    assert answer["advice"].endswith("; 2 of the 5 were never needed at once")


async def test_after_an_expiry_users_rest_for_the_lock_delay(farm: Farm, api: httpx.AsyncClient) -> None:
    pool = await farm.pool(1, lock_delay=300)
    for after in (0, 60):
        await leased(farm, pool, after=after, ended_by="expired")
    assert (await ask(api, pool))["needed"] == 2
    assert (await ask(api, pool, goal_seconds=300))["needed"] == 1


async def test_the_gap_between_two_sign_ins_keeps_a_user_busy(farm: Farm, api: httpx.AsyncClient) -> None:
    pool = await farm.pool(1, login_gap=600)
    for after in (0, 100):
        await leased(farm, pool, after=after)
    answer = await ask(api, pool)
    assert (answer["needed"], answer["rest_costs"]) == (2, 1)


async def test_requests_that_got_no_user_are_replayed_with_the_median_hold(
    farm: Farm, api: httpx.AsyncClient
) -> None:
    pool = await farm.pool(1)
    await leased(farm, pool, hold=100)
    await refused(farm, pool, requests=3)
    await refused(farm, pool, result="timeout", waited=50, wait_seconds=50)
    await refused(farm, pool, result="gone", waited=10, wait_seconds=300)
    answer = await ask(api, pool)
    assert (answer["requests"], answer["imputed"], answer["needed"]) == (6, 5, 6)
    assert any("5 requests got no user: each is replayed with the pool's median hold of 100 s." in line
               for line in answer["limits"])  # fmt: skip


async def test_a_request_that_asks_again_and_one_over_its_quota_do_not_count(
    farm: Farm, api: httpx.AsyncClient
) -> None:
    """The farm ends a wait after 50 seconds; a client that wants to wait for longer posts again."""
    pool = await farm.pool(1)
    await leased(farm, pool)
    await refused(farm, pool, result="timeout", requests=10, waited=50, wait_seconds=300)
    await refused(farm, pool, result="quota", requests=10)
    answer = await ask(api, pool)
    assert (answer["requests"], answer["imputed"], answer["needed"]) == (1, 0, 1)


async def test_users_with_a_label_are_added_in_proportion(farm: Farm, api: httpx.AsyncClient) -> None:
    pool = await farm.pool(3)
    await farm.user(pool, plan="pro")
    for _ in range(2):
        await leased(farm, pool, labels={"plan": "pro"})
    await leased(farm, pool, labels={"plan": "gone"})
    answer = await ask(api, pool)
    assert (answer["in_service"], answer["needed"], answer["requests"]) == (4, 7, 2)
    assert "The 7 users have the labels of the 4 in service, in the same shares." in answer["limits"]
    assert "1 request for labels that no user in service has: left out." in answer["limits"]


async def test_choices_of_labels_are_replayed_as_they_were_asked_for(
    farm: Farm, api: httpx.AsyncClient
) -> None:
    pool = await farm.pool(0)
    for plan in ("paid", "trial", "free"):
        await farm.user(pool, plan=plan)
    for _ in range(2):  # one user is enough for neither, and two users fit
        await leased(farm, pool, choices={"plan": ["paid", "trial"], "legacy": None})
    await leased(farm, pool, labels={"plan": "free"}, choices={"legacy": None})
    await leased(farm, pool, choices={"plan": ["gold", "silver"]})
    answer = await ask(api, pool, goal_seconds=0)
    assert (answer["requests"], answer["needed"]) == (3, 3)
    assert "1 request for labels that no user in service has: left out." in answer["limits"]


async def test_the_cleaning_after_a_test_is_part_of_its_rest(farm: Farm, api: httpx.AsyncClient) -> None:
    """The keeper takes the user ten minutes after the test, and needs five. The same farm, without it, says 1."""
    pool = await farm.pool(1, cleaning="required")
    lease = await farm.acquire(pool)
    await farm.release(lease)
    await pass_time(farm.sql, 600)
    chore = await farm.chore(pool)
    await pass_time(farm.sql, 300)
    await farm.release(chore)
    await pass_time(farm.sql, 86_400)
    answer = await ask(api, pool)
    assert (answer["requests"], answer["needed"]) == (1, 1)
    acquired = await farm.sql.fetchval("SELECT acquired_at FROM leases WHERE id = $1", lease.id)
    offset = (acquired - yesterday_at_ten()).total_seconds()
    await farm.sql.execute(
        "UPDATE projects SET check_every = 86400"
    )  # another policy, so the answer is not kept
    await leased(farm, pool, after=offset + 840)
    assert (await ask(api, pool))["needed"] == 2


async def test_holds_need_users_but_their_waits_do_not_count(farm: Farm, api: httpx.AsyncClient) -> None:
    pool = await farm.pool(1)
    await leased(farm, pool, after=-10, hold=3_600, purpose="hold")
    await leased(farm, pool)
    answer = await ask(api, pool)
    assert (answer["requests"], answer["needed"]) == (1, 2)


async def test_a_pool_in_which_nobody_asked(farm: Farm, api: httpx.AsyncClient) -> None:
    pool = await farm.pool(2)
    answer = await ask(api, pool, goal_seconds=0, quantile=0.999)
    assert answer["advice"] == "stage/regular: 2 in service; nobody asked for a user in the last 14 days"
    unknown = ("needed", "worst_day", "erlang_c", "rest_costs")
    assert [answer[name] for name in unknown] == [None] * 4
    assert (answer["sizes"], answer["limits"], answer["requests"]) == ([], [], 0)


async def test_a_pool_in_which_no_request_got_a_user(farm: Farm, api: httpx.AsyncClient) -> None:
    pool = await farm.pool(1)
    await refused(farm, pool)
    answer = await ask(api, pool, days=2)
    assert answer["advice"] == (
        "stage/regular: 1 in service; no replay, because no request got a user in the last 2 days"
    )


async def test_a_pool_whose_users_have_other_labels_by_now(farm: Farm, api: httpx.AsyncClient) -> None:
    pool = await farm.pool(1)
    await leased(farm, pool, labels={"plan": "gone"})
    assert "asked for labels that no user in service has" in (await ask(api, pool))["advice"]


async def test_leases_before_the_window_do_not_count(farm: Farm, api: httpx.AsyncClient) -> None:
    pool = await farm.pool(1)
    await leased(farm, pool, after=-3 * 86_400)
    for _ in range(2):
        await leased(farm, pool)
    assert (await ask(api, pool, days=2))["requests"] == 2
    assert (await ask(api, pool))["requests"] == 3


async def test_each_pool_of_the_project_has_an_answer(farm: Farm, api: httpx.AsyncClient) -> None:
    pool = await farm.pool(1)
    await farm.user(Pool(pool.project_id, pool.env, type(pool.domain)("canary")))
    everything = (await api.get("/capacity", params={"project_id": str(pool.project_id)})).json()["items"]
    assert sorted((each["env"], each["domain"]) for each in everything) == [
        ("stage", "canary"),
        ("stage", "regular"),
    ]
    assert (await ask(api, pool, env="stage", domain="canary"))["domain"] == "canary"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"quantile": "1"}, "quantile"),
        ({"quantile": "0"}, "quantile"),
        ({"quantile": "nan"}, "quantile"),
        ({"goal_seconds": "-1"}, "goal_seconds"),
        ({"goal_seconds": "inf"}, "goal_seconds"),
        ({"days": "0"}, "days"),
        ({"days": "91"}, "days"),
    ],
)
async def test_a_goal_that_makes_no_sense_is_refused(
    farm: Farm, api: httpx.AsyncClient, query: dict[str, str], field: str
) -> None:
    pool = await farm.pool(1)
    answer = await api.get("/capacity", params={"project_id": str(pool.project_id), **query})
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"].endswith(field), error


async def test_a_project_that_does_not_exist(api: httpx.AsyncClient) -> None:
    answer = await api.get("/capacity", params={"project_id": str(UUID(int=0))})
    assert answer.status_code == 404
    assert answer.json()["type"].endswith("no-such-project")


async def test_of_a_history_that_is_too_long_only_the_last_days_are_replayed(
    farm: Farm, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botfarm.services.usage.capacity.MAX_REQUESTS", 3)
    pool = await farm.pool(1)
    for after in (-86_400, -86_400, 0, 0):
        await leased(farm, pool, after=after)
    answer = await ask(api, pool)
    assert answer["requests"] == 2
    assert any(line.startswith("The history is too long for one replay: only the days since ")
               for line in answer["limits"])  # fmt: skip
    await refused(farm, pool, requests=2)
    answer = await ask(api, pool, days=2)
    assert answer["advice"] == (
        "stage/regular: 1 in service; no replay, because the last day has too many requests for one"
    )
