"""Administrators: they change policies, apply a farm file, make and revoke tokens, and ask how the farm was used."""

from itertools import count

from chaos.caller import Caller
from chaos.clients.people import Json, Person
from chaos.history import CANARY
from chaos.plan import PersonStep
from chaos.stock import PLANS, SHOP


class Administrator(Person):
    def __init__(self, caller: Caller, project_ids: dict[str, str]) -> None:
        super().__init__(caller, project_ids)
        self._tokens = count(1)
        self.deeds = {
            "change_policy": self._change_policy,
            "apply_file": self._apply_file,
            "revoke_token": self._revoke_token,
            "statistics": self._statistics,
        }

    async def _change_policy(self, step: PersonStep) -> None:
        project = list(self._project_ids.values())[step.which % len(self._project_ids)]
        await self._patch("update_project", f"/projects/{project}", step, step.change)

    async def _apply_file(self, step: PersonStep) -> None:
        users = [
            {
                "login": f"from-a-file-{number}@{SHOP.project}.test",
                "env": SHOP.env,
                "domain": SHOP.domain,
                "password": f"{CANARY}-from-a-file-{number}",
                "labels": {"plan": PLANS[step.which % len(PLANS)]},
            }
            for number in range(1 + step.which % 3)
        ]
        file: Json = {"name": "farm", "projects": [{"name": SHOP.project, "users": users}]}
        planned = await self._post("plan_config", "/config/plan", step, file)
        if planned.status == 200:
            body = {**file, "fingerprint": planned.answer["fingerprint"], "prune": step.which % 2 == 0}
            await self._post("apply_config", "/config/apply", step, body)

    async def _revoke_token(self, step: PersonStep) -> None:
        """A new one: those of the other clients stay."""
        body = {"name": f"short-{next(self._tokens)}", "role": "runner", "projects": ["*"], "envs": ["*"]}
        made = await self._post("create_token", "/tokens", step, body)
        if made.status == 201:
            path = f"/tokens/{made.answer['id']}"
            await self._caller.call("delete_token", "DELETE", path, replica=step.replica)

    async def _statistics(self, step: PersonStep) -> None:
        project = self._project_ids[SHOP.project]
        for operation, path in (
            ("get_pool_stats", f"/stats/pools?project_id={project}"),
            ("get_user_stats", f"/stats/users?project_id={project}"),
            ("get_holder_stats", f"/stats/holders?project_id={project}&by=principal"),
            ("get_capacity", f"/capacity?project_id={project}&env={SHOP.env}"),
        ):
            await self._get(operation, path, step)
