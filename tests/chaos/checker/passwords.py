"""No password anywhere but in its holder's answer, and no pending one in a test's hand."""

import json
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from chaos.checker.found_passwords import Passwords
from chaos.checker.kept import Kept
from chaos.checker.seen import ACQUIRES, Seen, lease_in, may_have_happened, user_in
from chaos.checker.spans import Spans
from chaos.checker.violations import Violation, shown
from chaos.history import Call, Json

PASSWORDS_KEPT = "passwords for the holder only"
PENDING_KEPT = "no pending password for a test"

_OF_THE_HOLDER = frozenset({"renew_lease", "get_lease", "write_back", "start_rotation", "confirm_rotation"})


def passwords_kept(seen: Seen, kept: Kept, passwords: Passwords, logs: Sequence[Path]) -> Iterator[Violation]:
    """A password is in clear for the holder of a live lease (docs/invariants.md), and nowhere else.

    That is: in answers to acquires, and in those to renewals, readings and rotations of a lease for the principal
    that acquired it; and in an export with credentials, which is for admins. Tables and logs have none. The page
    shows one where a person reveals it.
    """
    holders = {lease_id: call.principal for lease_id, call in seen.granted()}
    for call in seen.calls:
        if call.answer is None or _may_have_it(call, holders):
            continue
        if passwords.in_text(call.answer if isinstance(call.answer, str) else json.dumps(call.answer)):
            yield Violation(
                PASSWORDS_KEPT, f"{call.client} got a password from {call.operation}", (shown(call),)
            )
    for place in kept.passwords_in:
        yield Violation(PASSWORDS_KEPT, f"a password is in plain text in the table {place}")
    for log in logs:
        with log.open(errors="replace") as lines:
            for number, line in enumerate(lines, 1):
                if passwords.in_text(line):
                    yield Violation(PASSWORDS_KEPT, f"a password is in the log {log}, line {number}")


def _may_have_it(call: Call, holders: dict[str, str]) -> bool:
    if call.operation in ACQUIRES:
        return lease_in(call) is not None
    if call.operation in _OF_THE_HOLDER and call.status == 200:
        lease_id = call.path.split("/leases/")[1][:36]
        # The answer to the acquire may have been lost: then nobody knows whose the lease is.
        return holders.get(lease_id, call.principal) == call.principal and _is_live(call.answer)
    if call.operation == "export_users":
        return isinstance(call.body, dict) and call.body.get("credentials") is True
    return call.path.startswith("/ui/") and call.path.partition("?")[0].endswith("/reveal")


def _is_live(answer: Json) -> bool:
    return not answer.get("ended_at")


def pending_kept(seen: Seen, _: Kept) -> Iterator[Violation]:
    """No test gets a user whose new password is pending (docs/stock.md, Chores), nor that password.

    From the answer to the start of a rotation on, until somebody asked to confirm it or wrote another password. An
    import may write passwords of any users.
    """
    starts, ends = _rotations(seen)
    for lease_id, call in seen.granted():
        if call.answer.get("purpose") != "test":
            continue
        asked_at = seen.asked_at(call)
        for user in call.answer["users"]:
            started = starts.get(user["id"], [])
            before = bisect_left(started, asked_at, key=lambda each: each.ended_at)
            if "pending_password" in user:
                what = f"{call.client} got the pending password of user {user['id']} with lease {lease_id} of a test"
                yield Violation(PENDING_KEPT, what, (shown(call),))
            elif before and not ends[user["id"]].meet(started[before - 1].sent_at, call.ended_at):
                yield Violation(
                    PENDING_KEPT,
                    f"{call.client} got user {user['id']} for a test, by lease {lease_id}, while a new password "
                    "is pending",
                    (shown(started[before - 1]), shown(call)),
                )


def _rotations(seen: Seen) -> tuple[dict[str, list[Call]], dict[str, Spans]]:
    """By user: starts of rotations that were answered, and when a call may have ended one."""
    starts: dict[str, list[Call]] = defaultdict(list)
    ends: dict[str, list[tuple[float, float]]] = defaultdict(list)
    of_any = []
    for call in seen.calls:
        span = (call.sent_at, call.ended_at if call.status is not None else float("inf"))
        if call.operation == "start_rotation" and call.status == 200:
            starts[user_in(call)].append(call)
        elif call.operation in {"confirm_rotation", "write_back", "update_user"} and may_have_happened(call):
            ends[user_in(call)].append(span)
        elif call.operation == "import_users" and may_have_happened(call):
            of_any.append(span)
    for calls in starts.values():
        calls.sort(key=lambda call: call.ended_at)
    return starts, {user: Spans([*ends.get(user, ()), *of_any]) for user in starts}
