"""An operator at the page: signs in, reads, and sends a form now and then, as a browser without scripts does."""

import asyncio
from itertools import cycle
from typing import Any
from urllib.parse import urlsplit

from chaos.caller import Caller
from chaos.history import CANARY, PAGE, PATIENCE, Call
from chaos.plan import PersonStep
from support.pages import FRAGMENT, Read

PASSWORD = f"{CANARY}-a-reader"


class Reader:
    def __init__(self, caller: Caller) -> None:
        """The caller's HTTP client has the reader's cookies, so it is nobody else's."""
        self._caller = caller
        self._forms = {
            # Where a list is, how its links begin, the form behind one, and what is filled in.
            "quarantine": ("/ui/users", "/ui/users/", "quarantine", {"reason": "seen on the page"}),
            "restore": ("/ui/users?state=quarantined", "/ui/users/", "restore", {"note": "fine"}),
            "force_release": ("/ui/leases", "/ui/leases/", "force-release", {"reason": "it hangs"}),
        }

    async def go_on(self, script: list[PersonStep]) -> None:
        """Until it is cancelled."""
        for step in cycle(script):
            await asyncio.sleep(step.pause)
            if step.action in self._forms:
                await self._send_form(step, *self._forms[step.action])
            else:
                await self._get(f"/ui/{step.action}", step)

    async def _send_form(
        self, step: PersonStep, list_path: str, begin: str, action: str, filled: dict[str, str]
    ) -> None:
        listed = await self._get(list_path, step)
        links = _links(listed, begin)
        if not links:
            return
        page = await self._get(links[step.which % len(links)], step)
        for address, fields in _read(page).forms.items():
            if address.endswith(f"/{action}"):
                await self._send("POST", address, step, {**fields, **filled})

    async def _get(self, path: str, step: PersonStep) -> Call:
        """Signs in first where the farm asks for it."""
        page = await self._send("GET", path, step)
        if page.status in {303, 401}:
            form = {"name": self._caller.name, "password": PASSWORD}
            await self._send("POST", "/ui/sign-in", step, form)
            page = await self._send("GET", path, step)
        return page

    async def _send(
        self, method: str, path: str, step: PersonStep, form: dict[str, str] | None = None
    ) -> Call:
        origin = self._caller.origins[step.replica % len(self._caller.origins)]
        is_script = method == "GET" and step.which % 2  # it asks for the part that changes
        headers = FRAGMENT if is_script else {}
        request = self._caller.http.build_request(method, f"{origin}{path}", data=form, headers=headers)
        body: Any = {name: text for name, text in (form or {}).items() if name != "password"} or None
        return await self._caller.send(PAGE, request, body=body, key=None, patience=PATIENCE)


def _read(page: Call) -> Read:
    text = page.answer if page.status == 200 and isinstance(page.answer, str) else ""
    return Read(text.partition("<main")[2] or text)


def _links(page: Call, begin: str) -> list[str]:
    """Those to one user or lease."""
    paths = {urlsplit(link).path for link in _read(page).links}
    return sorted(path for path in paths if path.startswith(begin) and path.count("-") == 4)
