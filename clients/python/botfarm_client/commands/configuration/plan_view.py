"""A plan as people read it. The farm sends no secret with it."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from botfarm_client.commands.shared.output import counted, note, say
from botfarm_client.connection.api_calls import Json
from botfarm_client.shared.control_characters import escape_control_characters

_SIGNS = {"create": "+", "update": "~", "adopt": "~", "retire": "-", "revoke": "-"}
_DONE = {
    "adopt": "taken over",
    "retire": "retired; a leased one goes at its release",
    "revoke": "revoked",
}
_REASONS = {
    "not-managed": "no file made it",
    "managed-elsewhere": "another file made it",
    "retired": "it is retired for good; delete it first to make it anew",
}


def print_plan(plan: Json, *, prune: bool) -> None:
    for change in plan["changes"]:
        differences = [each for each in change["differences"] if each["before"] != each["after"]]
        said = [_done(change, differences), *map(_difference, differences)]
        _line(_SIGNS.get(change["deed"], "?"), change["thing"], said)
    for left in plan["left_alone"]:
        if left["differences"] or left["reason"] == "retired":
            said = [_REASONS.get(left["reason"], left["reason"]), *map(_difference, left["differences"])]
            _line("=", left["thing"], ["left as it is", *said])
    say(_summary(plan))
    _note_left_alone(plan)
    _note_unnamed(plan, prune=prune)


def _done(change: Json, differences: list[Any]) -> str:
    done = _DONE.get(change["deed"], "")
    if change["thing"]["kind"] == "trust_rule" and differences and change["deed"] != "create":
        return ", ".join(filter(None, (done, "replaced; its runs keep their leases")))
    return done


def _summary(plan: Json) -> str:
    deeds = Counter(change["deed"] for change in plan["changes"])
    if not deeds:
        return "Nothing to do."
    words = {
        "make": deeds["create"],
        "change": deeds["update"],
        "take over": deeds["adopt"],
        "retire": deeds["retire"],
        "revoke": deeds["revoke"],
    }
    return f"To {', to '.join(f'{word} {number}' for word, number in words.items() if number)}."


def _line(sign: str, thing: Mapping[str, Any], said: list[str]) -> None:
    place = "/".join(thing[name] for name in ("project", "env") if thing[name])
    where = f" ({place})" if thing["kind"] == "user" else ""
    details = ", ".join(filter(None, said))
    line = f"{sign} {_called(thing)}{where}{': ' if details else ''}{details}"
    say(escape_control_characters(line))


def _difference(difference: Mapping[str, Any]) -> str:
    before, after = difference["before"], difference["after"]
    if before is None:
        return f"{difference['field']} {_value(after)}"
    return f"{difference['field']} {_value(before)} -> {_value(after)}"


def _value(value: Any) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return str(value).lower()
        case list():
            return "+".join(map(str, value))
        case _:
            return str(value)


def _note_left_alone(plan: Json) -> None:
    reasons = Counter(left["reason"] for left in plan["left_alone"])
    if number := reasons["not-managed"]:
        note(
            f"{counted(number, 'thing')} of the file, made by other ways, left as they are: --adopt takes them over"
        )
    if number := reasons["managed-elsewhere"]:
        note(
            f"{counted(number, 'thing')} of the file, made by another file, left as they are: --adopt takes them over"
        )


def _note_unnamed(plan: Json, *, prune: bool) -> None:
    names = list(_unnamed(plan, {"user", "token", "trust_rule"}))
    if names and not prune:
        note(
            f"no longer in the file, and kept: {_some(names)}; --prune retires users and revokes tokens and trust rules"
        )
    if projects := list(_unnamed(plan, {"project"})):
        note(
            f"no longer in the file, and kept: {_some(projects)}; `botfarm projects delete` deletes an empty one"
        )


def _unnamed(plan: Json, kinds: set[str]) -> Iterator[str]:
    for thing in plan["unnamed"]:
        if thing["kind"] in kinds:
            yield _called(thing)


def _called(thing: Mapping[str, Any]) -> str:
    return f"{thing['kind'].replace('_', ' ')} {thing['name']}"


def _some(names: list[str]) -> str:
    shown = 10
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f"{', '.join(names[:shown])}{more}"
