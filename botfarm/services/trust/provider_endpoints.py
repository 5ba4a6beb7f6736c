"""Where a provider of OpenID Connect has its endpoints, asked for seldom: anybody can click on the sign-in."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from botfarm.services.trust.issuer_keys import BETWEEN_TRIES, LIFETIME, KeysUnavailableError


class SignOnRefusedError(Exception):
    """The text is the exact reason, for the audit. It holds nothing that the provider sent."""

    def __init__(self, reason: str, *, operator: str | None = None) -> None:
        super().__init__(reason)
        self.operator = operator


class Ask(Protocol):
    def __call__(self, address: str, *, form: Mapping[str, str] | None = None) -> object:
        """GETs a JSON document, or POSTs a form for one. Blocks. Raises KeysUnavailableError."""


class ProviderEndpoints:
    """Of the discovery document, which stays while the provider is away."""

    def __init__(self, issuer: str, ask: Ask, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._issuer = issuer
        self._ask = ask
        self._clock = clock
        self._lock = asyncio.Lock()
        self._document: Mapping[str, Any] = {}
        self._ask_at = -LIFETIME
        self._trouble = SignOnRefusedError("the provider was not asked")

    async def find(self, name: str) -> str:
        """Raises SignOnRefusedError."""
        async with self._lock:
            if self._clock() >= self._ask_at:
                await self._refresh()
        address = self._document.get(name)
        if not self._document:
            raise self._trouble
        if not isinstance(address, str) or not address.startswith("https://"):
            raise SignOnRefusedError(f"the discovery document has no {name} over https")
        return address

    async def _refresh(self) -> None:
        self._ask_at = self._clock() + BETWEEN_TRIES
        address = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
        try:
            document = document_of(await asked(self._ask, address))
        except SignOnRefusedError as trouble:
            self._trouble = trouble
            return
        if document.get("issuer") != self._issuer:
            self._trouble = SignOnRefusedError("the discovery document is not of this provider")
            return
        self._document = document
        self._ask_at = self._clock() + LIFETIME


async def asked(ask: Ask, address: str, form: Mapping[str, str] | None = None) -> object:
    """The provider's answer, without blocking. Raises SignOnRefusedError."""
    try:
        return await asyncio.to_thread(ask, address, form=form)
    except KeysUnavailableError as error:
        raise SignOnRefusedError(f"the provider cannot be asked: {error}") from None


def document_of(answer: object) -> Mapping[str, Any]:
    return answer if isinstance(answer, dict) else {}
