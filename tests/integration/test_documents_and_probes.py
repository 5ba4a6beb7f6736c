import asyncio
import re

import httpx

from support.http import LEASE


async def test_the_documents_are_public(api: httpx.AsyncClient) -> None:
    del api.headers["Authorization"]
    document = (await api.get("http://farm.test/openapi.json")).json()
    assert (await api.get("http://farm.test/docs")).status_code == 200
    operations = {
        operation["operationId"]: operation
        for path in document["paths"].values()
        for operation in path.values()
    }
    assert set(operations) == {
        "create_project", "get_projects", "get_project", "update_project", "delete_project", "create_user",
        "import_users", "get_users", "get_user", "update_user", "delete_user", "acquire_lock",
        "release_lock", "acquire_lease", "get_leases", "get_waiting", "get_lease", "renew_lease", "release_lease",
        "force_release_lease", "get_pools", "get_totp", "write_back", "create_token", "get_tokens", "delete_token",
        "get_audit", "login", "logout", "quarantine_user", "restore_user", "retire_user", "change_users",
        "get_user_history", "start_rotation", "confirm_rotation", "get_pool_stats", "get_user_stats",
        "get_holder_stats", "get_capacity", "plan_config", "apply_config", "export_users",
    }  # fmt: skip
    for operation in operations.values():
        for status, answer in operation["responses"].items():
            expected = "application/json" if int(status) < 400 else "application/problem+json"
            assert list(answer.get("content", {})) == ([] if status == "204" else [expected])


async def test_every_reference_of_the_document_leads_somewhere(api: httpx.AsyncClient) -> None:
    """Who generates a client from it follows them all."""
    answer = await api.get("http://farm.test/openapi.json")
    references = set(re.findall(r'"\$ref":\s*"([^"]+)"', answer.text))
    schemas = {f"#/components/schemas/{name}" for name in answer.json()["components"]["schemas"]}
    assert references, "there are some"
    assert references <= schemas


async def test_a_request_id_of_the_callers_own_is_kept(api: httpx.AsyncClient) -> None:
    assert (await api.get("/pools", headers={"X-Request-ID": "job-7"})).headers["x-request-id"] == "job-7"
    made_up = (await api.get("/pools", headers={"X-Request-ID": "a b\tc"})).headers["x-request-id"]
    assert len(made_up) == 32


async def test_probes_and_metrics(api: httpx.AsyncClient) -> None:
    await api.post("/leases", json=LEASE)
    async with asyncio.timeout(60):
        while (await api.get("http://farm.test/readyz")).status_code != 200:
            await asyncio.sleep(0.01)
    assert (await api.get("http://farm.test/startupz")).status_code == 200
    assert (await api.get("http://farm.test/livez")).text == "ok"
    for probe in ("livez", "readyz", "startupz"):
        assert (await api.head(f"http://farm.test/{probe}")).status_code == 200
    metrics = (await api.get("http://farm.test/metrics")).text
    assert 'botfarm_http_requests_total{method="POST",route="/api/v1/leases",status="404"}' in metrics
    assert 'botfarm_renew_total{result="lapsed"}' in metrics
    assert "botfarm_db_up 1.0" in metrics
    assert 'botfarm_ready{process="api"} 1.0' in metrics
    assert 'botfarm_encryption_key_active{key_id="test"} 1.0' in metrics
    assert re.search(
        r'botfarm_problems_total{method="POST",route="/api/v1/leases",type="no-such-project"} [1-9]', metrics
    )
    # Zeros for what has not happened yet: a rate needs them to see the first time.
    for operation in ("leases/{lease_id}/renew", "leases/{lease_id}/release", "users/{user_id}/acquire_lock"):
        for slug in ("internal", "database-unavailable", "shutting-down"):
            assert (
                f'botfarm_problems_total{{method="POST",route="/api/v1/{operation}",type="{slug}"}}'
                in metrics
            )
