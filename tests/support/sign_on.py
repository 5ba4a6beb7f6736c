"""People with browsers who sign in at a provider."""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx

from botfarm.settings import Settings
from support.farm import test_settings
from support.issuer import TOKEN as TOKEN_PATH
from support.issuer import Issuer

PUBLIC_URL = "https://farm.test"
GROUPS = "qa-leads=manager:shop/*; support=viewer:shop/stage,prod; ops=admin"


@dataclass
class Person:
    """A person's browser, which is a client of the farm and of the provider."""

    http: httpx.AsyncClient
    provider: Issuer
    claims: dict[str, Any]
    query: dict[str, str] = field(default_factory=dict)
    """What the farm sent along to the provider."""

    async def leave(self, page: str = "/ui/users?state=dirty") -> None:
        left = await self.http.get("/ui/sign-in/there", params={"next": page})
        assert left.status_code == 303, left.text
        address = urlsplit(left.headers["location"])
        assert f"{address.scheme}://{address.netloc}{address.path}" == f"{self.provider.url}/authorize"
        self.query = dict(parse_qsl(address.query))

    async def come_back(self, **changed: str) -> httpx.Response:
        claims = {"nonce": self.query["nonce"], "aud": "the-farm", **self.claims}
        if TOKEN_PATH not in self.provider.documents:
            self.provider.documents[TOKEN_PATH] = {"id_token": self.provider.token({}, **claims)}
        query = {"code": "a-code", "state": self.query["state"], **changed}
        return await self.http.get(
            "/ui/sign-in/return", params=query, headers={"Sec-Fetch-Site": "cross-site"}
        )

    async def sign_in(self) -> httpx.Response:
        self.provider.documents.pop(TOKEN_PATH, None)
        await self.leave()
        return await self.come_back()


def sign_on_settings(database_url: str, provider: Issuer, **changed: Any) -> Settings:
    return test_settings(
        database_url,
        **{
            "public_url": PUBLIC_URL,
            "oidc_issuer": provider.url,
            "oidc_client_id": "the-farm",
            "oidc_client_secret": "of-the-farm",
            "oidc_name": "Acme",
            "oidc_roles": GROUPS,
            **changed,
        },
    )


def person(api: httpx.AsyncClient, provider: Issuer, **claims: Any) -> Person:
    transport = api._transport
    return Person(httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL), provider, claims)


async def reasons(api: httpx.AsyncClient) -> list[str]:
    entries = (await api.get("/audit", params={"action": "login_failed"})).json()["items"]
    return [entry["details"]["reason"] for entry in entries]
