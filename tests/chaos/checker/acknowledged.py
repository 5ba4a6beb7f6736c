"""Nothing that was acknowledged is lost."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime

from chaos.checker.holding import Hold, holds
from chaos.checker.kept import Kept, KeptLease
from chaos.checker.seen import Seen, lease_named, may_have_happened, user_in, users_of
from chaos.checker.violations import Violation, shown, slug_of
from chaos.history import Call

NOTHING_LOST = "nothing lost"
HOLDERS_KNOW = "no live lease is refused"

_LOST = frozenset({"lease-lapsed", "no-such-lease", "not-the-holder"})
_AUDITED = {"create_user", "delete_user", "quarantine_user", "retire_user", "write_back", "confirm_rotation"}
_STATUS = frozenset({"quarantine_user", "restore_user", "retire_user"})


def nothing_lost(seen: Seen, kept: Kept) -> Iterator[Violation]:
    """What was answered with success is in the database, because the commit comes before the answer.

    Each lease is there with its fence and users, with an end that is not before any that was answered, and ended as
    its release was answered. Changes of users are in the audit, and created and imported users are there unless
    somebody may have deleted them. A user that was quarantined last is quarantined.
    """
    for lease_id, calls in seen.acquires.items():
        yield from _of_lease(lease_id, [*calls, *seen.renewals.get(lease_id, ())], kept)
    for calls in (*seen.releases.values(), *seen.forced.values()):
        for call in calls:
            if call.status == 200 and isinstance(call.answer, dict) and "fence" in call.answer:
                yield from _of_end(call, kept.leases.get(str(call.answer["id"])))
    for call in seen.calls:
        target = _target(call) if call.operation in _AUDITED and call.status in {200, 201, 204} else None
        if target is not None and (call.operation, target) not in kept.audited:
            yield Violation(NOTHING_LOST, f"{call.operation} of {target} is not in the audit", (shown(call),))
    yield from _users_that_are_missing(seen, kept)
    yield from _quarantines_that_are_lost(seen, kept)


def _of_lease(lease_id: str, answered: list[Call], kept: Kept) -> Iterator[Violation]:
    stored = kept.leases.get(lease_id)
    first = answered[0]
    if stored is None:
        yield Violation(
            NOTHING_LOST, f"lease {lease_id} of {first.client} is not in the database", (shown(first),)
        )
        return
    if (stored.fence, set(stored.users)) != (first.answer["fence"], set(users_of(first))):
        what = f"lease {lease_id} of {first.client} has another fence or other users in the database"
        yield Violation(
            NOTHING_LOST, what, (shown(first), f"the database: fence {stored.fence}, users {stored.users}")
        )
    latest = max(answered, key=lambda call: datetime.fromisoformat(call.answer["expires_at"]))
    if stored.expires_at < datetime.fromisoformat(latest.answer["expires_at"]):
        yield Violation(
            NOTHING_LOST,
            f"lease {lease_id} was to live until {latest.answer['expires_at']}, as {latest.client} was told, "
            f"and the database has {stored.expires_at}",
            (shown(latest),),
        )


def _of_end(call: Call, stored: KeptLease | None) -> Iterator[Violation]:
    told = (call.answer["ended_at"], call.answer["ended_by"], call.answer["outcome"])
    if stored is None:
        yield Violation(NOTHING_LOST, f"lease {call.answer['id']} is not in the database", (shown(call),))
        return
    ended_at = stored.ended_at and stored.ended_at.isoformat()
    same_time = told[0] is not None and stored.ended_at == datetime.fromisoformat(told[0])
    if not same_time or told[1:] != (stored.ended_by, stored.outcome):
        yield Violation(
            NOTHING_LOST,
            f"lease {stored.id} ended at {told[0]} ({told[1]}, {told[2]}), as {call.client} was told, and the database "
            f"has {ended_at} ({stored.ended_by}, {stored.outcome})",
            (shown(call),),
        )


def _target(call: Call) -> str | None:
    """The id under which the audit has what was done."""
    if call.operation == "create_user":
        return str(call.answer["id"]) if isinstance(call.answer, dict) else None
    return lease_named(call) or user_in(call)


def _users_that_are_missing(seen: Seen, kept: Kept) -> Iterator[Violation]:
    if any(_may_delete_or_rename(call) for call in seen.calls):
        return
    logins = {str(user["login"]).lower() for user in kept.users.values()}
    for call in seen.calls:
        if call.operation in {"create_user", "import_users"} and call.status in {200, 201}:
            missing = [login for login in _logins_of(call) if login.lower() not in logins]
            if missing:
                what = f"{len(missing)} users of {call.client} are not in the database, {missing[0]} for one"
                yield Violation(NOTHING_LOST, what, (shown(call),))


def _may_delete_or_rename(call: Call) -> bool:
    is_rename = call.operation == "update_user" and isinstance(call.body, dict) and "login" in call.body
    is_page = call.method == "POST" and call.path.startswith("/ui/users")
    is_bulk = (
        call.operation == "change_users" and isinstance(call.body, dict) and call.body["action"] == "delete"
    )
    return (call.operation == "delete_user" or is_rename or is_page or is_bulk) and may_have_happened(call)


def _logins_of(call: Call) -> Iterator[str]:
    """Those of the lines that were taken."""
    lines: list[object] = call.body if isinstance(call.body, list) else [call.body]
    if isinstance(call.body, str):
        lines = [json.loads(line) for line in call.body.splitlines()]
    refused = {error["line"] for error in call.answer.get("errors", ())}
    for number, line in enumerate(lines, 1):
        if isinstance(line, dict) and number not in refused:
            yield str(line["login"])


def _quarantines_that_are_lost(seen: Seen, kept: Kept) -> Iterator[Violation]:
    of_users: dict[str, list[Call]] = defaultdict(list)
    of_many = []
    for call in seen.calls:
        if not may_have_happened(call):
            continue
        if call.operation in _STATUS:
            of_users[user_in(call)].append(call)
        elif call.operation == "change_users" or (
            call.method == "POST" and call.path.startswith("/ui/users")
        ):
            of_many.append(call)
    for user_id, calls in of_users.items():
        last = max(calls, key=lambda call: call.sent_at)
        is_meant = last.operation == "quarantine_user" and last.status == 200 and not last.body.get("until")
        others = [call for call in (*calls, *of_many) if call is not last]
        user = kept.users.get(user_id)
        if (
            is_meant
            and user is not None
            and user["status"] != "quarantined"
            and not _any_may_come_after(last, others)
        ):
            what = f"user {user_id} was quarantined by {last.client}, and is {user['status']} in the database"
            yield Violation(NOTHING_LOST, what, (shown(last),))


def _any_may_come_after(last: Call, others: Iterable[Call]) -> bool:
    return any(call.status is None or call.ended_at > last.sent_at for call in others)


def holders_know(seen: Seen, _: Kept) -> Iterator[Violation]:
    """A holder is not told that its lease has ended before its end (docs/leases.md, rule 3; decision 0021).

    Unless somebody forced the release. When the database's clock is stepped forwards, leases end at once and their
    holders are told so (docs/leases.md, The clock), so what was told about a lease that lived through a step is left
    out.
    """
    of_leases: dict[str, list[Hold]] = defaultdict(list)
    for hold in holds(seen):
        of_leases[hold.lease].append(hold)
    for call in seen.calls:
        lease_id = lease_named(call) if slug_of(call) in _LOST else None
        for hold in of_leases.get(lease_id or "", ()):
            is_known = hold.since <= call.sent_at and call.ended_at < hold.deadline
            if not is_known or call.principal != hold.granted.principal:
                continue
            if not _released_before(seen, hold, call) and not seen.clock_stepped(
                hold.granted.sent_at, call.ended_at
            ):
                yield Violation(
                    HOLDERS_KNOW,
                    f"{call.client} was told {slug_of(call)} at {call.ended_at:.3f} s about lease {hold.lease}, "
                    f"which it held until {hold.deadline:.3f} s",
                    tuple(dict.fromkeys(map(shown, (hold.granted, hold.prolonged, call)))),
                )


def _released_before(seen: Seen, hold: Hold, call: Call) -> bool:
    return any(
        each is not call and each.sent_at <= call.ended_at for each in seen.releases.get(hold.lease, ())
    )
