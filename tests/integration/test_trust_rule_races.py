"""Exchanges of identity tokens beside deletions and other exchanges, in forced orders."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from support.app import api_client
from support.farm import open_farm, test_settings
from support.http import create_project
from support.issuer import AUDIENCE, Issuer

ISSUER = Issuer()
FORM = {
    "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
}


@pytest.fixture
async def api(database_url: str, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    (tmp_path / "ci.test.json").write_text(json.dumps(ISSUER.jwks()))
    settings = test_settings(database_url, public_url=AUDIENCE, oidc_keys_dir=tmp_path)
    async with api_client(settings) as client:
        await create_project(client)
        rule = {"name": "ci", "issuer": ISSUER.url, "claims": {"repository_id": "7301"}}
        made = await client.post("/trust-rules", json={**rule, "projects": ["shop"], "envs": ["stage"]})
        assert made.status_code == 201
        yield client


async def exchange(api: httpx.AsyncClient, token: str) -> httpx.Response:
    return await api.post("/auth/token", data={**FORM, "subject_token": token})


async def last_reason(api: httpx.AsyncClient) -> str:
    entries = (await api.get("/audit", params={"action": "exchange_failed"})).json()["items"]
    return str(entries[0]["details"]["reason"])


async def test_an_exchange_waits_for_a_deletion_of_its_rule_and_gives_nothing(
    api: httpx.AsyncClient, database_url: str
) -> None:
    async with open_farm(database_url) as farm:
        async with farm.sql.transaction():
            await farm.sql.execute("UPDATE trust_rules SET deleted_at = clock_timestamp()")
            late = asyncio.create_task(exchange(api, ISSUER.token()))
            await farm.until_blocked()
        assert (await late).status_code == 400
        assert await farm.sql.fetchval("SELECT count(*) FROM run_tokens") == 0
    assert await last_reason(api) == "the trust rule was deleted"


@pytest.mark.parametrize("is_kept", [True, False])
async def test_the_second_exchange_of_one_token_waits_for_the_first(
    api: httpx.AsyncClient, database_url: str, is_kept: bool
) -> None:
    """It is refused when the first is committed, and goes on when the first came to nothing."""
    token = ISSUER.token()
    assert (await exchange(api, token)).status_code == 200
    async with open_farm(database_url) as farm:
        digest = await farm.sql.fetchval("DELETE FROM spent_identity_tokens RETURNING digest")
        first = farm.sql.transaction()
        await first.start()
        await farm.sql.execute(
            "INSERT INTO spent_identity_tokens VALUES ($1, now() + interval '1 hour')", digest
        )
        second = asyncio.create_task(exchange(api, token))
        await farm.until_blocked()
        await (first.commit() if is_kept else first.rollback())
        assert (await second).status_code == (400 if is_kept else 200)
    if is_kept:
        assert await last_reason(api) == "exchanged before"
