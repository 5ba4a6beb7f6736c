"""Reads YAML into a tree whose nodes know their lines. Nothing is guessed of a value: its type comes from the schema.

The tree is made from events, because the library's own trees are made by recursion: a file of many brackets would end
the process.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from botfarm_client.commands.configuration.file_errors import (
    FarmFileError,
    Mistake,
    path_in_list,
    path_in_map,
)

MAX_DEPTH = 20
MAX_BYTES = 4_194_304
_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


@dataclass(frozen=True, slots=True)
class Scalar:
    line: int
    text: str
    is_plain: bool
    """Written without quotes."""


@dataclass(slots=True)
class ListNode:
    line: int
    items: list["Node"] = field(default_factory=list)


@dataclass(slots=True)
class MapNode:
    line: int
    entries: dict[str, "Node"] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    """Of the keys."""


Node = Scalar | ListNode | MapNode


def read_yaml(content: bytes) -> Node:
    """Raises FarmFileError with the line and place of what is wrong."""
    if len(content) > MAX_BYTES:
        raise FarmFileError([Mistake(1, "", f"is larger than {MAX_BYTES:,} bytes")])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise FarmFileError([Mistake(line, "", "is not UTF-8 text")]) from None
    try:
        return _Composer().compose(yaml.parse(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        raise FarmFileError([_not_yaml(text, error)]) from None
    except yaml.YAMLError:  # a character that YAML has not
        raise FarmFileError([Mistake(_line_of_unreadable(text), "", "has a control character")]) from None


class _Composer:
    def __init__(self) -> None:
        self._open: list[ListNode | MapNode] = []
        self._keys: list[str | None] = []
        """The last key of each open node; None for lists, and before the first key."""
        self._wants_value: list[bool] = []
        """Of each open node, whether its last key has no value yet."""
        self._anchors: dict[str, Node] = {}
        self._names: list[str | None] = []
        """The anchor of each open node."""

    def compose(self, events: Iterator[yaml.Event]) -> Node:
        root: Node | None = None
        for event in events:
            node = self._node(event)
            if node is None:
                continue
            if self._open:
                self._add(self._open[-1], node, event.start_mark.line + 1)
            elif root is None:
                root = node
            else:
                raise self._error(event, "is a second document: a file has one")
            if isinstance(event, yaml.CollectionStartEvent):
                self._enter(event, node)
        if root is None:
            raise FarmFileError([Mistake(1, "", "is empty")])
        return root

    def _node(self, event: yaml.Event) -> Node | None:
        """The node that begins with this event."""
        line = event.start_mark.line + 1
        match event:
            case yaml.AliasEvent():
                if event.anchor not in self._anchors:
                    raise self._error(event, f"there is no anchor {event.anchor!r} before")
                return self._anchors[event.anchor]
            case yaml.ScalarEvent() | yaml.CollectionStartEvent() if event.tag is not None:
                raise self._error(event, "tags (!...) are not read")
            case yaml.ScalarEvent():
                scalar = Scalar(line, event.value, is_plain=event.style in {None, ""})
                if event.anchor:
                    self._anchors[event.anchor] = scalar
                return scalar
            case yaml.SequenceStartEvent():
                return ListNode(line)
            case yaml.MappingStartEvent():
                return MapNode(line)
            case yaml.CollectionEndEvent():
                self._leave()
            case _:  # begins and ends of the document
                pass
        return None

    def _enter(self, event: yaml.Event, node: Node) -> None:
        if len(self._open) >= MAX_DEPTH:
            raise self._error(event, "is nested too deep")
        assert not isinstance(node, Scalar)  # noqa: S101  for the type checker
        self._open.append(node)
        self._keys.append(None)
        self._wants_value.append(False)
        self._names.append(event.anchor)

    def _leave(self) -> None:
        node, name = self._open.pop(), self._names.pop()
        self._keys.pop()
        self._wants_value.pop()
        if name:
            self._anchors[name] = node

    def _add(self, parent: ListNode | MapNode, node: Node, line: int) -> None:
        if isinstance(parent, ListNode):
            parent.items.append(node)
            return
        key, wants_value = self._keys[-1], self._wants_value[-1]
        self._wants_value[-1] = not wants_value
        if key is not None and wants_value:
            parent.entries[key] = node
            return
        self._keys[-1] = None
        if not isinstance(node, Scalar):
            raise FarmFileError([Mistake(line, self._path(), "a key must be text")])
        if node.text in parent.lines:
            message = f"is there twice, first in line {parent.lines[node.text]}"
            raise FarmFileError([Mistake(line, path_in_map(self._path(), node.text), message)])
        parent.lines[node.text] = line
        self._keys[-1] = node.text

    def _path(self) -> str:
        path = ""
        for node, key in zip(self._open, self._keys, strict=True):
            if isinstance(node, ListNode):
                path = path_in_list(path, len(node.items) - 1)
            elif key is not None:
                path = path_in_map(path, key)
        return path

    def _error(self, event: yaml.Event, message: str) -> FarmFileError:
        return FarmFileError([Mistake(event.start_mark.line + 1, self._path(), message)])


def _not_yaml(text: str, error: yaml.MarkedYAMLError) -> Mistake:
    mark = error.problem_mark or error.context_mark
    number = mark.line if mark else 0
    line = text.split("\n")[number] if number <= text.count("\n") else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return Mistake(number + 1, "", "is indented by a tab: YAML wants spaces")
    return Mistake(number + 1, "", f"is not YAML: {error.problem or 'cannot be read'}")


def _line_of_unreadable(text: str) -> int:
    for number, line in enumerate(text.split("\n"), start=1):
        if any(character < " " and character not in "\t\r" for character in line):
            return number
    return 1
