"""A holder reads the password that was written last."""

import json
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from chaos.checker.effects import DONE, Effects
from chaos.checker.kept import Kept
from chaos.checker.seen import ACQUIRES, Seen, lease_in, lease_named, may_have_happened, user_in
from chaos.checker.spans import Spans
from chaos.checker.violations import Violation, shown
from chaos.history import Call

LAST_PASSWORD = "the password that was written last"

_Span = tuple[float, float]
_Place = tuple[str, str, str]
"""Project, env and login."""
_PendingPasswords = dict[tuple[str | None, str], str]
"""By lease and user."""


@dataclass(slots=True)
class _Writes:
    """Of the password of one user."""

    done: list[Call] = field(default_factory=list)
    spans: dict[str, list[_Span]] = field(default_factory=lambda: defaultdict(list))
    """By password."""
    unknown: list[_Span] = field(default_factory=list)
    """Of a password that no answer shows."""


def last_password(seen: Seen, _: Kept) -> Iterator[Violation]:
    """A holder gets the password that was acknowledged last (docs/stock.md, Chores: no crash loses a password).

    A password may be read if its write was not over before another one began that was acknowledged before the read.
    The first one of a user is that of its creation or its import.
    Left out are reads beside or after a write of which it is not known what it wrote, until one that is known has
    come after it: of any user an import that may update users, or one by the page; of one user a confirmation that
    was not acknowledged, of a password that nobody has seen.
    """
    writes, of_any = _writes(seen)
    orders = {user: _Order(of_user, of_any) for user, of_user in writes.items()}
    for call in (call for calls in seen.acquires.values() for call in calls):
        for user in call.answer["users"]:
            order = orders.get(user["id"])
            last = order.last_before(call.sent_at) if order else None
            if order is None or last is None or "password" not in user:
                continue
            if order.unknown.meet(last.sent_at, call.ended_at):
                continue
            seen.compared[LAST_PASSWORD] += 1
            if not order.may_be_read(user["password"], last.sent_at, call.ended_at):
                what = (
                    f"{call.client} got another password of user {user['id']} than {last.client} had written"
                )
                yield Violation(LAST_PASSWORD, what, (shown(last), shown(call)))


class _Order:
    def __init__(self, writes: _Writes, of_any: list[_Span]) -> None:
        done = sorted(writes.done, key=lambda call: call.ended_at)
        self._ends = [call.ended_at for call in done]
        self._last = list(accumulate(done, _later))
        self._spans = {password: Spans(spans) for password, spans in writes.spans.items()}
        self.unknown = Spans([*writes.unknown, *of_any])

    def last_before(self, moment: float) -> Call | None:
        """Of the writes that were acknowledged by then, the one that was sent last."""
        done = bisect_left(self._ends, moment)
        return self._last[done - 1] if done else None

    def may_be_read(self, password: str, since: float, until: float) -> bool:
        return password in self._spans and self._spans[password].meet(since, until)


def _later(first: Call, second: Call) -> Call:
    return max(first, second, key=lambda call: call.sent_at)


def _writes(seen: Seen) -> tuple[dict[str, _Writes], list[_Span]]:
    """By user; and the spans of those that may write of any user."""
    writes: dict[str, _Writes] = defaultdict(_Writes)
    of_any = []
    effects = Effects(seen)
    ids = _ids(seen)
    pending: _PendingPasswords = {}
    for call in seen.calls:
        pending.update(_pending_in(call))
        if not may_have_happened(call):
            continue
        if (call.operation == "import_users" and "update" in call.path) or _is_on_the_page(call):
            of_any.append((call.sent_at, effects.over_at(call)))
        elif call.operation == "import_users":
            for place, password in _imported(call):
                if user := ids.get(place):
                    writes[user].spans[password].append((call.sent_at, call.ended_at))
                    writes[user].done.append(call)
        elif (written := _password_of(call, pending)) is not None:
            user, password = written
            writes[user].spans[password].append((call.sent_at, effects.over_at(call)))
            if call.status in DONE:
                writes[user].done.append(call)
        elif call.operation == "confirm_rotation":
            writes[user_in(call)].unknown.append((call.sent_at, effects.over_at(call)))
    return writes, of_any


def _ids(seen: Seen) -> dict[_Place, str]:
    """Of the users that somebody was given."""
    return {
        _place(user): user["id"]
        for calls in seen.acquires.values()
        for call in calls
        for user in call.answer["users"]
    }


def _place(user: dict[str, Any]) -> _Place:
    return user["project_id"], user["env"], user["login"]


def _imported(call: Call) -> Iterator[tuple[_Place, str]]:
    """The users that an import has made for sure, with their passwords."""
    if call.status != 200:
        return
    users = [json.loads(line) for line in call.body.splitlines()]
    if call.answer["created"] == len(users):
        yield from ((_place(user), user["password"]) for user in users)


def _pending_in(call: Call) -> Iterator[tuple[tuple[str | None, str], str]]:
    """What a confirmation makes the password of the user, as the answer to the keeper shows it."""
    if call.operation == "start_rotation" and call.status == 200:
        yield (lease_named(call), user_in(call)), call.answer["pending_password"]
    elif call.operation in ACQUIRES and (lease_id := lease_in(call)) is not None:
        for user in call.answer["users"]:
            if "pending_password" in user:
                yield (lease_id, user["id"]), user["pending_password"]


def _is_on_the_page(call: Call) -> bool:
    return call.method == "POST" and call.path.startswith("/ui/users/import")


def _password_of(call: Call, pending: _PendingPasswords) -> tuple[str, str] | None:
    """The user and the password that the call writes."""
    given = call.body.get("password") if isinstance(call.body, dict) else None
    match call.operation:
        case "create_user" if call.status == 201:
            return call.answer["id"], given or ""
        case "write_back" | "update_user" if given:
            return user_in(call), given
        case "confirm_rotation" if call.status == 200:
            return user_in(call), call.answer["password"]
        case "confirm_rotation" if (lease_named(call), user_in(call)) in pending:
            return user_in(call), pending[lease_named(call), user_in(call)]
    return None
