"""The lease that a fake farm gives to `botfarm leases acquire`: users with credentials."""

from typing import Any

from support.fake_farm import PROJECT_ID, FakeFarm

LEASE_ID = "33333333-3333-4333-8333-333333333333"
ACQUIRE = ("leases", "acquire", "--project", "shop", "--env", "stage")


def user(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "id": f"22222222-2222-4222-8222-{number:012}",
        "project_id": PROJECT_ID,
        "env": "stage",
        "domain": "regular",
        "login": f"u{number}@x.test",
        "password": "hunter2",
        "locktime": "2026-11-23T15:34:25Z",
        "labels": {"team": "red"},
        **fields,
    }


def lease(*users: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": LEASE_ID,
        "project_id": PROJECT_ID,
        "env": "stage",
        "domain": "regular",
        "owner": None,
        "metadata": {},
        "acquired_at": "2026-11-23T15:34:25Z",
        "expires_in": 900.0,
        "ttl_seconds": 900,
        "hold_until": "2026-11-24T03:34:25Z",
        "ended_at": None,
        "users": list(users),
    }


def farm(*users: dict[str, Any]) -> FakeFarm:
    return FakeFarm({"POST /leases": lease(*users), f"POST /leases/{LEASE_ID}/release": lease(*users)})
