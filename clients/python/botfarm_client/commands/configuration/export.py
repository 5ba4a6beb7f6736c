"""`botfarm export`: the farm as a file, for `botfarm plan` and `botfarm apply`."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from botfarm_client.commands.configuration.farm_file import schema_text
from botfarm_client.commands.shared.farm_access import open_farm
from botfarm_client.commands.shared.lookups import is_live
from botfarm_client.commands.shared.options import DEFAULT_URL, Url
from botfarm_client.commands.shared.output import note, say
from botfarm_client.connection.api_calls import Json
from botfarm_client.errors import ForbiddenError
from botfarm_client.shared.durations import format_duration, parse_duration

if TYPE_CHECKING:
    from botfarm_client.connection.connection import Connection

HEAD = """\
# yaml-language-server: $schema=farm.schema.json
# Passwords stay in the farm. On another farm a user needs one: password: {env: NAME} or {file: PATH}.
# `botfarm plan` compares this file with the farm; the first `botfarm apply --adopt` takes over what is there.
"""
ALL = "*"


def export(
    *,
    as_config: Annotated[bool, typer.Option("--as-config", help="The farm as a file, in YAML.")] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="The JSON schema of such a file, for editors.")
    ] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Print the farm as a file for `botfarm plan` and `apply`, without a secret."""
    if as_config == schema:
        raise typer.BadParameter("say --as-config, or --schema")
    if schema:
        say(schema_text().rstrip("\n"))
        return
    with open_farm(url) as farm:
        exported = _export(farm)
    import yaml  # noqa: PLC0415  not for --help and --schema

    written = yaml.safe_dump(exported, sort_keys=False, allow_unicode=True, width=float("inf"))
    say(HEAD + written.rstrip("\n"))


def _export(farm: "Connection") -> Json:
    projects = farm.items("/projects")
    users, _ = farm.pages("/users", limit=None)
    tokens, rules = _access(farm)
    names = {project["id"]: project["name"] for project in projects}
    properties = json.loads(schema_text())["$defs"]
    by_project: dict[str, list[Json]] = {}
    for user in users:
        if user["status"] != "retired":
            by_project.setdefault(user["project_id"], []).append(_user(user))
    exported: Json = {
        "name": _name_of([*projects, *users, *tokens, *rules]),
        "projects": {
            project["name"]: {
                **_settings(project, properties["ConfiguredProject"]["properties"]),
                "policy": _settings(project, properties["ProjectPolicyPatch"]["properties"]),
                "users": by_project.get(project["id"], []),
            }
            for project in projects
        },
        "tokens": {
            token["name"]: found
            for token in reversed(tokens)  # of several of one name the newest
            if (found := _scoped(token, names, properties["ConfiguredToken"]["properties"]))
        },
        "trust_rules": {
            rule["name"]: found
            for rule in rules
            if (found := _scoped(rule, names, properties["ConfiguredTrustRule"]["properties"]))
        },
    }
    return {name: value for name, value in exported.items() if value}


def _access(farm: "Connection") -> tuple[list[Json], list[Json]]:
    """The tokens in force, and the trust rules."""
    try:
        return [token for token in farm.items("/tokens") if is_live(token)], farm.items("/trust-rules")
    except ForbiddenError:
        note("without tokens and trust rules, which need the role admin")
        return [], []


def _name_of(things: Iterable[Json]) -> str:
    """The name of the file that has made most of them."""
    made = Counter(thing["managed_by"] for thing in things if thing.get("managed_by"))
    return made.most_common(1)[0][0] if made else "farm"


def _user(user: Json) -> Json:
    labels = {"labels": user["labels"]} if user["labels"] else {}
    return {"login": user["login"], "env": user["env"], "domain": user["domain"], **labels}


def _scoped(thing: Json, names: Mapping[str, str], properties: Mapping[str, Any]) -> Json | None:
    """A token or a trust rule; None for one whose projects are all deleted."""
    projects = (
        [ALL] if thing["projects"] == [ALL] else [names[each] for each in thing["projects"] if each in names]
    )
    named = {**thing, "projects": projects}
    return _settings(named, properties) if projects else None


def _settings(thing: Json, properties: Mapping[str, Any]) -> Json:
    """What the file can say of this thing, without what is not set."""
    return {
        name: _duration(thing[name]) if schema.get("x-duration") else thing[name]
        for name, schema in properties.items()
        if thing.get(name) is not None
    }


def _duration(seconds: int) -> int | str:
    """As people write it, where that is exact."""
    written = format_duration(seconds)
    return written if seconds and parse_duration(written) == seconds else seconds
