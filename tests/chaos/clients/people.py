"""People who run the farm by its API: what they do to users and leases they have just seen in a list."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from itertools import count, cycle
from typing import Any

from chaos.caller import Caller
from chaos.history import CANARY, Call
from chaos.plan import PersonStep
from chaos.stock import SHOP

Json = dict[str, Any]
Deed = Callable[[PersonStep], Awaitable[object]]


class Person:
    """Who does what its `deeds` say, one thing after the other."""

    deeds: dict[str, Deed]

    def __init__(self, caller: Caller, project_ids: dict[str, str]) -> None:
        self._caller = caller
        self._project_ids = project_ids

    async def go_on(self, script: list[PersonStep]) -> None:
        """Until it is cancelled."""
        for step in cycle(script):
            await asyncio.sleep(step.pause)
            await self.deeds[step.action](step)

    async def _get(self, operation: str, path: str, step: PersonStep) -> Call:
        return await self._caller.call(operation, "GET", path, replica=step.replica)

    async def _post(self, operation: str, path: str, step: PersonStep, body: Json | None = None) -> Call:
        return await self._caller.call(operation, "POST", path, replica=step.replica, body=body)

    async def _patch(self, operation: str, path: str, step: PersonStep, body: Json) -> Call:
        return await self._caller.call(operation, "PATCH", path, replica=step.replica, body=body)


class Lead(Person):
    """Looks after users."""

    def __init__(self, caller: Caller, project_ids: dict[str, str]) -> None:
        super().__init__(caller, project_ids)
        self._imports = count(1)
        self.deeds = {
            "quarantine": self._quarantine,
            "restore": self._restore,
            "restore_all": self._restore_all,
            "label_all": self._label_all,
            "new_password": self._new_password,
            "hold": self._hold,
            "lock": self._lock,
            "force_release": self._force_release,
            "import_users": self._import_users,
            "delete_imported": self._delete_imported,
            "read_lists": self._read_lists,
        }

    async def _quarantine(self, step: PersonStep) -> None:
        if user := await self._one_of("get_users", "/users?limit=20", step):
            path = f"/users/{user['id']}"
            await self._post("quarantine_user", f"{path}/quarantine", step, {"reason": "a look at it"})
            await self._caller.call("get_user", "GET", path, replica=step.replica + 1)

    async def _restore(self, step: PersonStep) -> None:
        if user := await self._one_of("get_users", "/users?state=quarantined", step):
            await self._post("restore_user", f"/users/{user['id']}/restore", step, {"note": "it works"})

    async def _restore_all(self, step: PersonStep) -> None:
        wanted = {"action": "restore", "filter": {"state": "quarantined"}}
        await self._post("change_users", "/users/bulk", step, wanted)

    async def _label_all(self, step: PersonStep) -> None:
        wanted = {
            "action": "label",
            "labels": {"round": str(step.which % 7)},
            "filter": {"project_id": self._project_ids["shop"]},
            "dry_run": step.which % 3 == 0,
        }
        await self._post("change_users", "/users/bulk", step, wanted)

    async def _new_password(self, step: PersonStep) -> None:
        if user := await self._one_of("get_users", "/users?limit=20", step):
            body = {"password": f"{CANARY}-by-{self._caller.name}-{step.which}"}
            await self._patch("update_user", f"/users/{user['id']}", step, body)

    async def _hold(self, step: PersonStep) -> None:
        wanted: Json = {"purpose": "hold", "note": "for a look", "ttl_seconds": 3}
        user = await self._one_of("get_users", "/users?state=free", step)
        if user is not None:
            wanted["user_id"] = user["id"]
            held = await self._post("acquire_lease", "/leases", step, wanted)
            if held.status in {200, 201} and step.which % 2:
                await self._post("release_lease", f"/leases/{held.answer['id']}/release", step, {})

    async def _lock(self, step: PersonStep) -> None:
        """The pair of operations without a lease id."""
        user = await self._one_of("get_users", "/users?state=free", step)
        if user is not None:
            path = f"/users/{user['id']}"
            locked = await self._post("acquire_lock", f"{path}/acquire_lock", step, {"ttl_seconds": 3})
            if locked.status == 200 and step.which % 3:
                await self._post("release_lock", f"{path}/release_lock", step)

    async def _force_release(self, step: PersonStep) -> None:
        if lease := await self._one_of("get_leases", "/leases?state=active", step):
            path = f"/leases/{lease['id']}/force_release"
            await self._post("force_release_lease", path, step, {"reason": "it hangs"})

    async def _import_users(self, step: PersonStep) -> None:
        batch = next(self._imports)
        lines = [
            json.dumps(
                {
                    "login": f"imported-{self._caller.name}-{batch}-{number}@shop.test",
                    "password": f"{CANARY}-imported-{self._caller.name}-{batch}-{number}",
                    "project_id": self._project_ids["shop"],
                    "env": SHOP.env,
                    "domain": SHOP.domain,
                    "labels": {"imported": "yes"},
                }
            )
            for number in range(2)
        ]
        await self._caller.call(
            "import_users", "POST", "/users/import", replica=step.replica, lines="\n".join(lines)
        )

    async def _delete_imported(self, step: PersonStep) -> None:
        action = "delete" if step.which % 4 else "retire"
        wanted = {"action": action, "filter": {"labels": {"imported": "yes"}}}
        if action == "retire":
            wanted["reason"] = "no longer needed"
        await self._post("change_users", "/users/bulk", step, wanted)

    async def _read_lists(self, step: PersonStep) -> None:
        for operation, path in (
            ("get_pools", "/pools"),
            ("get_waiting", "/leases/waiting"),
            ("get_leases", "/leases?limit=20"),
            ("get_audit", "/audit?limit=5"),
            ("get_pool_stats", "/stats/pools"),
        ):
            await self._get(operation, path, step)
        if user := await self._one_of("get_users", "/users", step):
            await self._get("get_user_history", f"/users/{user['id']}/history", step)

    async def _one_of(self, operation: str, path: str, step: PersonStep) -> Json | None:
        listed = await self._get(operation, path, step)
        items = listed.answer["items"] if listed.status == 200 else []
        return items[step.which % len(items)] if items else None
