"""`botfarm leases waiting`: the queue, for people and for scripts."""

from support.fake_farm import PROJECT_ID, FakeFarm

TICKET = {
    "id": 7,
    "place": 1,
    "project_id": PROJECT_ID,
    "env": "stage",
    "domain": "regular",
    "count": 3,
    "labels": {"team": "red", "plan": ["paid", "trial"], "legacy": None},
    "login": "a@shop.test",
    "priority": 2,
    "principal": "token:ci:abc",
    "owner": "job 7",
    "arrived_at": "2026-11-23T15:34:25Z",
    "waited": 83.2,
    "ends_in": 12.0,
    "expected_in": 240.4,
}


def test_the_line_is_a_table() -> None:
    out = FakeFarm({"GET /leases/waiting": {"items": [TICKET]}}).run("leases", "waiting").out
    header, line = out.splitlines()
    assert header.split() == [
        "PROJECT",
        "ENV",
        "DOMAIN",
        "PLACE",
        "COUNT",
        "LABELS",
        "USER",
        "PRIORITY",
        "OWNER",
        "PRINCIPAL",
        "WAITED",
        "EXPECTED",
        "ENDS",
    ]
    assert line.split("  ")[0] == "shop"
    for cell in (
        "team=red, plan=paid or trial, no legacy",
        "a@shop.test",
        "job 7",
        "token:ci:abc",
        "1m23s",
        "in about 4m",
        "in 12s",
    ):
        assert cell in line


def test_json_is_the_apis_own() -> None:
    farm = FakeFarm({"GET /leases/waiting": {"items": [TICKET]}})
    assert farm.run("leases", "waiting", "--json").json == {"items": [TICKET]}


def test_a_project_goes_by_its_name() -> None:
    farm = FakeFarm({"GET /leases/waiting": {"items": []}})
    farm.run("leases", "waiting", "--project", "shop", "--env", "stage", "--domain", "canary")
    (asked,) = [request for request in farm.requests if request.url.path.endswith("/waiting")]
    assert dict(asked.url.params) == {"project_id": PROJECT_ID, "env": "stage", "domain": "canary"}
