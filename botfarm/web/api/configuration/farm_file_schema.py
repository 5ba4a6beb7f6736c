"""The JSON schema of a farm file, made from the bodies of the API.

Editors complete and check a file by it, and `botfarm plan` reads a file by it. It is committed with the client,
where a test holds it equal to this one.
"""

from typing import Any

from botfarm.web.api.configuration.configuration_requests import ConfigurationToPlan

Schema = dict[str, Any]

_NOT_IN_THE_FILE = {"prune", "adopt"}
"""These are options of the command."""
_SEEDS = {"password", "secrets", "totp_seed"}
_NAMED_LISTS = {"projects", "tokens", "trust_rules"}
"""Lists of the body that are maps by name in the file."""
_SECONDS = "Seconds"
_DURATION = r"^(?=.)(\d+d)?(\d+h)?(\d+m)?(\d+s?)?$"
_SEED: Schema = {
    "title": "Seed",
    "description": "A secret of a new user: {env: NAME} or {file: PATH}.",
    "type": "object",
    "properties": {
        "env": {"type": "string", "description": "The environment variable that has it."},
        "file": {"type": "string", "description": "The file that has it, seen from the folder of this one."},
    },
    "additionalProperties": False,
    "minProperties": 1,
    "maxProperties": 1,
}


def farm_file_schema() -> Schema:
    body = ConfigurationToPlan.model_json_schema()
    definitions = {name: _in_file(each) for name, each in body.pop("$defs").items()}
    definitions["Seed"] = _SEED
    properties = {name: each for name, each in body["properties"].items() if name not in _NOT_IN_THE_FILE}
    for name in _NAMED_LISTS:
        properties[name] = _by_name(properties[name], definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "botfarm: the farm as a file",
        "type": "object",
        "properties": {name: _field(name, each) for name, each in properties.items()},
        "additionalProperties": False,
        "required": ["name"],
        "$defs": {name: definitions[name] for name in sorted(definitions)},
    }


def _by_name(items: Schema, definitions: dict[str, Schema]) -> Schema:
    """A map by name in the place of a list of things that have one."""
    reference = items["items"]["$ref"]
    thing = definitions[reference.rpartition("/")[2]]
    name = thing["properties"].pop("name")
    thing["required"] = [each for each in thing.get("required", ()) if each != "name"]
    return {
        "type": "object",
        "additionalProperties": {"$ref": reference},
        "propertyNames": {"pattern": name["pattern"]},
    }


def _in_file(definition: Schema) -> Schema:
    kept = _without(definition, "title")
    if "properties" in kept:
        kept["properties"] = {name: _field(name, each) for name, each in kept["properties"].items()}
    return kept


def _field(name: str, field: Schema) -> Schema:
    field = _without(_never_null(field), "title", "default")
    if name in _SEEDS:
        return {"$ref": "#/$defs/Seed"}
    if field.get("type") == "integer" and str(field.get("description", "")).startswith(_SECONDS):
        return _duration(field)
    for key in ("items", "additionalProperties"):
        if isinstance(field.get(key), dict):
            field[key] = _without(_never_null(field[key]), "title")
    return field


def _duration(field: Schema) -> Schema:
    seconds = {key: value for key, value in field.items() if key != "description"}
    description = field["description"].replace(_SECONDS, "Seconds, or 90s, 15m, 2h, 1h30m, 90d", 1)
    return {
        "description": description,
        "x-duration": True,
        "anyOf": [seconds, {"type": "string", "pattern": _DURATION}],
    }


def _never_null(field: Schema) -> Schema:
    """In a file a key that has no value is left out."""
    choices = [each for each in field.get("anyOf", ()) if each != {"type": "null"}]
    if len(choices) == 1:
        return {**_without(field, "anyOf"), **choices[0]}
    return {**field, "anyOf": choices} if choices else field


def _without(schema: Schema, *keys: str) -> Schema:
    return {key: value for key, value in schema.items() if key not in keys}
