from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.fake_farm import PROJECT_ID, FakeFarm

USER_ID = "0068cbd8-e11a-4151-8c8c-659b33b2fa19"
UPDATED: dict[str, Any] = {
    "at": "2026-11-23T16:34:25.123456+01:00",
    "principal": "operator:ada",
    "address": "192.0.2.7",
    "request_id": "r1",
    "action": "update_user",
    "target": "user",
    "target_id": USER_ID,
    "project_id": PROJECT_ID,
    "env": "stage",
    "details": {"changed": ["password", "env"], "note": "rotated"},
}
FORGED = {
    **UPDATED,
    "principal": "token:ci:t1",
    "details": {},
    "project_id": None,
    "env": None,
    "address": None,
}


def farm_with(*entries: dict[str, Any], next_cursor: str | None = None) -> FakeFarm:
    return FakeFarm({"GET /audit": {"items": entries, "next_cursor": next_cursor}})


def test_the_audit_is_a_table_of_who_did_what() -> None:
    farm = farm_with(UPDATED, {**FORGED, "action": "delete\x1b[2J"}, next_cursor="more")
    shown = farm.run("audit", "--limit", "2")
    header, first, second = shown.out.splitlines()
    assert header.split("  ")[0] == "TIME (UTC)"
    for text in ("2026-11-23 15:34:25", "operator:ada", "192.0.2.7", "update_user", "shop", USER_ID):
        assert text in first
    assert 'changed=["password", "env"], note=rotated' in first
    assert r"delete\x1b[2J" in second
    assert "--all" in shown.err


def test_json_is_what_the_farm_says() -> None:
    assert farm_with(UPDATED, FORGED).run("audit", "--json").json == {"items": [UPDATED, FORGED]}


def test_all_filters_are_asked_for() -> None:
    farm = farm_with()
    filters = ("--principal", "operator:ada", "--action", "update_user", "--target", USER_ID)
    farm.run(
        "audit", *filters, "--project", "shop", "--since", "2026-11-23", "--until", "2026-11-24T12:00+01:00"
    )
    assert dict(farm.requests[1].url.params) == {
        "limit": "100",
        "principal": "operator:ada",
        "action": "update_user",
        "project_id": PROJECT_ID,
        "target_id": USER_ID,
        "since": "2026-11-23T00:00:00+00:00",
        "until": "2026-11-24T12:00:00+01:00",
    }


def test_a_time_may_be_a_duration_back_from_now() -> None:
    farm = farm_with()
    farm.run("audit", "--since", "2h", "--json")
    since = datetime.fromisoformat(farm.requests[0].url.params["since"])
    assert timedelta(0) <= datetime.now(UTC) - timedelta(hours=2) - since < timedelta(minutes=1)


@pytest.mark.parametrize("when", ["", "yesterday", "2026-13-01", "99999999999d"])
def test_an_invalid_time_is_wrong_usage(when: str) -> None:
    farm = farm_with()
    assert "2026-11-23T15:30Z" in farm.run("audit", "--since", when, exit_code=2).err
    assert not farm.requests
