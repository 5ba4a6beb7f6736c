"""Reads a tree of YAML by the JSON schema of a farm file: unknown keys, types, choices and bounds.

A text is read as it is written, so `no` and `1.10` are texts where the schema wants a text. Names, lengths and forms
are checked by the farm.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from botfarm_client.commands.configuration.file_errors import Mistake, path_in_list, path_in_map
from botfarm_client.commands.configuration.yaml_tree import ListNode, MapNode, Node, Scalar
from botfarm_client.shared.durations import TimeFormatError, parse_duration

Schema = Mapping[str, Any]

MAX_NODES = 500_000
"""Read in all. A few aliases of aliases would make more than any machine has memory for."""
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,15})")
_NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?")
_NULLS = {"", "~", "null", "Null", "NULL"}
_BOOLEANS = {"true": True, "false": False}


class SchemaReader:
    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._nodes = 0
        self.errors: list[Mistake] = []
        self.lines: dict[str, int] = {}
        """Of each place that was read."""

    def read(self, node: Node) -> Any:
        """The value, which is whole only if there are no errors."""
        return self._read(node, self._schema, "")

    def _read(self, node: Node, schema: Schema, place: str) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._refuse(node, place, "is too much: its aliases repeat too many things")
            return None
        self.lines.setdefault(place, node.line)
        schema = self._resolved(schema)
        if schema.get("x-duration"):
            return self._duration(node, schema, place)
        if "anyOf" in schema:
            return self._choice(node, schema, place)
        match schema.get("type"):
            case "object":
                return self._map(node, schema, place)
            case "array":
                return self._list(node, schema, place)
            case kind:
                return self._scalar(node, schema, place, str(kind))

    def _map(self, node: Node, schema: Schema, place: str) -> dict[str, Any] | None:
        if not isinstance(node, MapNode):
            described = (
                f" ({schema['description'].rstrip('.')})"
                if "properties" in schema and "description" in schema
                else ""
            )
            self._refuse(node, place, f"must be a map of keys and values{described}")
            return None
        known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        found: dict[str, Any] = {}
        for key, value in node.entries.items():
            inner = path_in_map(place, key)
            self.lines[inner] = node.lines[key]
            if key in known or isinstance(others, Mapping):
                found[key] = self._read(value, known.get(key, others), inner)
            else:
                self.errors.append(
                    Mistake(node.lines[key], inner, f"there is no such key{_nearest(key, known)}")
                )
        for key in schema.get("required", ()):
            if key not in node.entries:
                self._refuse(node, path_in_map(place, key), "is missing")
        return found

    def _list(self, node: Node, schema: Schema, place: str) -> list[Any] | None:
        if not isinstance(node, ListNode):
            self._refuse(node, place, "must be a list")
            return None
        return [
            self._read(item, schema["items"], path_in_list(place, index))
            for index, item in enumerate(node.items)
        ]

    def _choice(self, node: Node, schema: Schema, place: str) -> Any:
        """One of several texts; the schema has no other choices."""
        choices = [self._resolved(each) for each in schema["anyOf"]]
        texts = [text for each in choices for text in each.get("enum", [each.get("const")])]
        return self._text(node, place, None if None in texts else texts)

    def _scalar(self, node: Node, schema: Schema, place: str, kind: str) -> Any:
        if kind == "string":
            return self._text(node, place, schema.get("enum"))
        if isinstance(node, Scalar) and node.is_plain:
            match kind:
                case "integer" if _INTEGER.fullmatch(node.text):
                    return self._within(node, int(node.text), schema, place)
                case "number" if _NUMBER.fullmatch(node.text):
                    return self._within(node, float(node.text), schema, place)
                case "boolean" if node.text in _BOOLEANS:
                    return _BOOLEANS[node.text]
        wanted = {"integer": "a whole number", "number": "a number", "boolean": "true or false"}
        self._refuse(node, place, f"must be {wanted[kind]}")
        return None

    def _text(self, node: Node, place: str, choices: Iterable[str] | None) -> str | None:
        if not isinstance(node, Scalar):
            self._refuse(node, place, "must be text")
        elif node.is_plain and node.text in _NULLS:
            self._refuse(node, place, "has no value: leave the key out, or put the text into quotes")
        elif choices is not None and node.text not in choices:
            self._refuse(node, place, f"must be one of {', '.join(choices)}")
        else:
            return node.text
        return None

    def _duration(self, node: Node, schema: Schema, place: str) -> int | None:
        seconds = next(each for each in schema["anyOf"] if each["type"] == "integer")
        try:
            if isinstance(node, Scalar):
                return int(self._within(node, parse_duration(node.text), seconds, place))
        except TimeFormatError:
            pass
        self._refuse(node, place, "must be a duration, such as 90, 90s, 15m, 2h, 1h30m or 90d")
        return None

    def _within(self, node: Node, number: float, schema: Schema, place: str) -> float:
        if number < schema.get("minimum", number):
            self._refuse(node, place, f"must be at least {schema['minimum']}")
        if number > schema.get("maximum", number):
            self._refuse(node, place, f"must be at most {schema['maximum']}")
        return number

    def _resolved(self, schema: Schema) -> Schema:
        if "$ref" not in schema:
            return schema
        definition: Schema = self._schema["$defs"][schema["$ref"].rpartition("/")[2]]
        return definition

    def _refuse(self, node: Node, place: str, message: str) -> None:
        self.errors.append(Mistake(node.line, place, message))


def _nearest(key: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(key, names, n=1, cutoff=0.6)
    return f": did you mean {near[0]}?" if near else f"; there are {', '.join(names)}"
