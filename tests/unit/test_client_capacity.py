"""`botfarm capacity`: a sentence for each pool, then how it comes."""

from support.fake_farm import PROJECT_ID, FakeFarm

ADVICE = "stage/canary: 12 in service, 18 would keep 95 % of waits under 30 s (worst day 24 Nov)"
POOL = {
    "project_id": PROJECT_ID,
    "project": "shop",
    "env": "stage",
    "domain": "canary",
    "in_service": 12,
    "needed": 18,
    "worst_day": "2026-11-24",
    "sizes": [
        {"users": 12, "p50": 0.0, "p95": 412.4, "p99": None, "share_over_goal": 0.25},
        {"users": 18, "p50": 0.0, "p95": 12.2, "p99": 60.0, "share_over_goal": 0.041},
    ],
    "erlang_c": 9,
    "requests": 1440,
    "imputed": 3,
    "rest_costs": 3,
    "days": 10,
    "advice": ADVICE,
    "limits": ["A limit."],
}
SILENT = {
    **POOL,
    "advice": "prod/canary: 2 in service; nobody asked for a user in the last 14 days",
    "needed": None,
    "worst_day": None,
    "sizes": [],
    "erlang_c": None,
    "rest_costs": None,
    "limits": [],
}


def test_the_sentence_comes_first_and_the_table_after_it() -> None:
    out = FakeFarm({"GET /capacity": {"items": [POOL]}}).run("capacity", "--project", "shop").out
    assert out.splitlines() == [
        ADVICE,
        "",
        "USERS  P50  P95    P99    OVER GOAL",
        "12     0 s  412 s  never  25.0 %     in service",
        "18     0 s  12 s   60 s   4.1 %      needed",
        "",
        "The rest after leases costs 3 of the 18.",
        "Erlang's formula C, which knows no bursts and no office hours, would say 9.",
        "A limit.",
    ]


def test_a_pool_without_a_history_is_one_sentence() -> None:
    out = FakeFarm({"GET /capacity": {"items": [SILENT, POOL]}}).run("capacity", "--project", "shop").out
    assert out.splitlines()[:3] == [SILENT["advice"], "", ADVICE]


def test_what_was_asked_for_goes_to_the_farm() -> None:
    farm = FakeFarm({"GET /capacity": {"items": []}})
    options = ("--env", "stage", "--domain", "canary", "--goal", "2m", "--quantile", "0.9", "--days", "7")
    ran = farm.run("capacity", "--project", "shop", *options)
    (asked,) = [request for request in farm.requests if request.url.path.endswith("/capacity")]
    assert dict(asked.url.params) == {
        "project_id": PROJECT_ID,
        "env": "stage",
        "domain": "canary",
        "goal_seconds": "120",
        "quantile": "0.9",
        "days": "7",
    }
    assert "there is no such pool" in ran.err


def test_json_is_the_apis_own() -> None:
    farm = FakeFarm({"GET /capacity": {"items": [POOL]}})
    assert farm.run("capacity", "--project", "shop", "--json").json == {"items": [POOL]}
    (asked,) = [request for request in farm.requests if request.url.path.endswith("/capacity")]
    assert asked.url.params["goal_seconds"] == "30"


def test_a_quantile_of_one_is_refused_with_a_sentence() -> None:
    for quantile in ("1", "0", "nan", "95"):
        ran = FakeFarm({}).run("capacity", "--project", "shop", "--quantile", quantile, exit_code=2)
        assert "more than 0 and less than 1" in " ".join(ran.err.split())
