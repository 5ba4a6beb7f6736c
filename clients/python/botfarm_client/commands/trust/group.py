from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from botfarm_client.commands.shared.farm_access import open_farm
from botfarm_client.commands.shared.issuers import issuer_address
from botfarm_client.commands.shared.key_values import parse_pairs
from botfarm_client.commands.shared.lookups import project_names, trust_rule_of
from botfarm_client.commands.shared.options import (
    DEFAULT_URL,
    AsJson,
    Url,
    Yes,
    all_or_some,
    duration_option,
)
from botfarm_client.commands.shared.output import Columns, note, print_json, print_table, say
from botfarm_client.commands.shared.prompts import confirm

trust = typer.Typer(
    no_args_is_help=True, help="Which runs of a CI get a token of the farm, without a secret."
)


class RunRole(StrEnum):
    RUNNER = "runner"
    KEEPER = "keeper"


@trust.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its runs hold leases as ci:NAME:RUN.")],
    *,
    issuer: Annotated[
        str, typer.Option("--issuer", metavar="github|gitlab|URL", help="Who signs the identity tokens.")
    ],
    claim: Annotated[
        list[str],
        typer.Option(
            "--claim",
            metavar="NAME=VALUE",
            help="What the token must say; * stands for any text. Of GitHub repository_id or repository_owner_id "
            "is needed, of GitLab project_id or namespace_id. Repeatable.",
        ),
    ],
    project: Annotated[
        list[str],
        typer.Option("--project", metavar="PROJECT", help="Its name or id; '*' for all. Repeatable."),
    ],
    env: Annotated[list[str], typer.Option("--env", metavar="ENV", help="'*' for all. Repeatable.")],
    role: Annotated[RunRole, typer.Option("--role")] = RunRole.RUNNER,
    max_leases: Annotated[
        int | None,
        typer.Option("--max-leases", min=1, help="How many users one run may hold at the same time."),
    ] = None,
    max_leases_of_all: Annotated[
        int | None,
        typer.Option("--max-leases-of-all", min=1, help="How many users all its runs may hold together."),
    ] = None,
    token_ttl: Annotated[
        int | None,
        duration_option(
            "--token-ttl", "How long a run's token lives, 12h at most; clients renew it. Default: 1h."
        ),
    ] = None,
    reuse: Annotated[
        bool,
        typer.Option("--reuse", help="Take an identity token more than once: GitLab gives a job only one."),
    ] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Trust the runs of a CI whose identity tokens have these claims."""
    body = {
        "name": name,
        "issuer": issuer_address(issuer),
        "claims": parse_pairs(claim, option="--claim"),
        "role": role,
        "projects": all_or_some(project, option="--project"),
        "envs": all_or_some(env, option="--env"),
        "once": not reuse,
        **({} if token_ttl is None else {"token_ttl": token_ttl}),
        **({} if max_leases is None else {"max_leases": max_leases}),
        **({} if max_leases_of_all is None else {"max_leases_of_all": max_leases_of_all}),
    }
    with open_farm(url) as farm:
        made = farm.post("/trust-rules", body)
    if as_json:
        print_json(made)
    else:
        say(f"Runs with these claims get a token now: {made['name']} with the id {made['id']}.")
        note(
            "docs/ci.md says what a job needs: with GitHub `permissions: id-token: write`, with GitLab `id_tokens:`"
        )
        if issuer == "gitlab" and not reuse:
            note("GitLab gives a job one identity token: without --reuse, only its first command gets in")


@trust.command("list")
def list_rules(*, as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """List the trust rules."""
    with open_farm(url) as farm:
        items = farm.items("/trust-rules")
        names = {} if as_json else project_names(farm)
    if as_json:
        print_json({"items": items})
    else:
        print_rules(items, names)


@trust.command()
def remove(
    rule: Annotated[str, typer.Argument(metavar="NAME|ID")],
    *,
    yes: Yes = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Trust these runs no longer: their tokens end within seconds, their leases by themselves."""
    with open_farm(url) as farm:
        found = trust_rule_of(farm, rule)
        confirm(f"Remove the trust rule {found['name']} of {found['issuer']}?", yes=yes)
        farm.delete(f"/trust-rules/{found['id']}")
    if as_json:
        print_json({"id": found["id"], "removed": True})
    else:
        say(f"Removed the trust rule {found['name']}.")


def print_rules(rules: list[dict[str, Any]], names: Mapping[str, str]) -> None:
    columns: Columns = {
        "name": lambda rule: rule["name"],
        "issuer": lambda rule: rule["issuer"],
        "claims": lambda rule: ", ".join(f"{name}={value}" for name, value in sorted(rule["claims"].items())),
        "role": lambda rule: rule["role"],
        "projects": lambda rule: ", ".join(names.get(project, project) for project in rule["projects"]),
        "envs": lambda rule: ", ".join(rule["envs"]),
        "max leases": lambda rule: rule["max_leases"],
        "of all": lambda rule: rule["max_leases_of_all"],
        "once": lambda rule: "yes" if rule["once"] else "no",
    }
    print_table(columns, rules)
