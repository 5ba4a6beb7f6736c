"""A holder reads the password that was written last."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate

from chaos.checker.kept import Kept
from chaos.checker.seen import Seen, lease_named, may_have_happened, user_in
from chaos.checker.spans import Spans
from chaos.checker.violations import Violation, shown
from chaos.history import Call

LAST_PASSWORD = "the password that was written last"

_NEVER = float("inf")
_IS_DONE = frozenset({200, 201})


@dataclass(slots=True)
class _Writes:
    """Of the password of one user. One that was not answered may be done at any time."""

    done: list[Call] = field(default_factory=list)
    spans: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    """By password."""


def last_password(seen: Seen, _: Kept) -> Iterator[Violation]:
    """A holder gets the password that was acknowledged last (docs/stock.md, Chores: no crash loses a password).

    A password may be read if its write was not over before another one began that was acknowledged before the read.
    Reads after an import that may update users, or by the page, are left out: which passwords they wrote is not known.
    """
    writes, unknown = _writes(seen)
    orders = {user: _Order(of_user) for user, of_user in writes.items()}
    for call in (call for _, call in seen.granted()):
        for user in call.answer["users"]:
            order = orders.get(user["id"])
            if order is None or "password" not in user or unknown.meet(float("-inf"), call.ended_at):
                continue
            last = order.last_before(call.sent_at)
            if last is not None and not order.may_be_read(user["password"], last.sent_at, call.ended_at):
                what = (
                    f"{call.client} got another password of user {user['id']} than {last.client} had written"
                )
                yield Violation(LAST_PASSWORD, what, (shown(last), shown(call)))


class _Order:
    def __init__(self, writes: _Writes) -> None:
        done = sorted(writes.done, key=lambda call: call.ended_at)
        self._ends = [call.ended_at for call in done]
        self._last = list(accumulate(done, _later))
        self._spans = {password: Spans(spans) for password, spans in writes.spans.items()}

    def last_before(self, moment: float) -> Call | None:
        """Of the writes that were acknowledged by then, the one that was sent last."""
        done = bisect_left(self._ends, moment)
        return self._last[done - 1] if done else None

    def may_be_read(self, password: str, since: float, until: float) -> bool:
        return password in self._spans and self._spans[password].meet(since, until)


def _later(first: Call, second: Call) -> Call:
    return max(first, second, key=lambda call: call.sent_at)


def _writes(seen: Seen) -> tuple[dict[str, _Writes], Spans]:
    """By user; and the spans of those that are not known one by one."""
    writes: dict[str, _Writes] = defaultdict(_Writes)
    unknown = []
    pending: dict[tuple[str | None, str], str] = {}
    for call in seen.calls:
        if call.operation == "start_rotation" and call.status == 200:
            pending[lease_named(call), user_in(call)] = call.answer["pending_password"]
        if not may_have_happened(call):
            continue
        is_done = call.status in _IS_DONE
        span = (call.sent_at, call.ended_at if is_done else _NEVER)
        if (call.operation == "import_users" and "update" in call.path) or _is_on_the_page(call):
            unknown.append(span)
        elif (written := _password_of(call, pending)) is not None:
            user, password = written
            writes[user].spans[password].append(span)
            if is_done:
                writes[user].done.append(call)
        elif call.operation == "confirm_rotation":
            unknown.append(span)
    return writes, Spans(unknown)


def _is_on_the_page(call: Call) -> bool:
    return call.method == "POST" and call.path.startswith("/ui/users/import")


def _password_of(call: Call, pending: dict[tuple[str | None, str], str]) -> tuple[str, str] | None:
    """The user and the password that the call writes."""
    given = call.body.get("password") if isinstance(call.body, dict) else None
    match call.operation:
        case "create_user" if call.status == 201:
            return call.answer["id"], given or ""
        case "write_back" | "update_user" if given is not None:
            return user_in(call), given
        case "confirm_rotation" if call.status == 200:
            return user_in(call), call.answer["password"]
        case "confirm_rotation" if (lease_named(call), user_in(call)) in pending:
            return user_in(call), pending[lease_named(call), user_in(call)]
    return None
