"""How a run begins: projects, users, tokens and an operator, made by calls that are recorded like all others."""

import json
from collections.abc import Mapping
from dataclasses import replace

from chaos.caller import Caller
from chaos.clients.readers import PASSWORD
from chaos.history import Call
from chaos.processes import ChaosFarm
from chaos.stock import POLICIES, TOKENS, users


async def fill(farm: ChaosFarm, admin: Caller, readers: list[str]) -> dict[str, str]:
    """Returns the ids of the projects, by name."""
    project_ids = {}
    for name, policy in POLICIES.items():
        made = await _made(admin, "create_project", "/projects", {"name": name, **policy})
        project_ids[name] = made.answer["id"]
    lines = [json.dumps({**user, "project_id": project_ids[user["project_id"]]}) for user in users()]
    imported = await admin.call("import_users", "POST", "/users/import", replica=0, lines="\n".join(lines))
    assert imported.status == 200, imported
    for reader in readers:
        arguments = ("operators", "add", reader, "--role", "manager", "--project", "*", "--env", "*")
        await farm.command(*arguments, stdin=PASSWORD)
    return project_ids


async def callers_by_token(admin: Caller) -> Mapping[str, Caller]:
    """One for each token; their names are still those of the tokens."""
    made = {}
    for token in TOKENS:
        body = {"name": token.name, "role": token.role, "projects": ["*"], "envs": ["*"]}
        call = await _made(admin, "create_token", "/tokens", {**body, "max_leases": token.max_leases})
        made[token.name] = replace(admin, principal=f"token:{token.name}", token=call.answer["token"])
    return made


async def _made(admin: Caller, operation: str, path: str, body: dict[str, object]) -> Call:
    call = await admin.call(operation, "POST", path, replica=0, body=body)
    assert call.status == 201, call
    return call
