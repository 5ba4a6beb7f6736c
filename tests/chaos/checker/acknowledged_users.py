"""Users that were made are there, and a user that was quarantined stays so until somebody may have restored it."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from chaos.checker.changes import changes_many, changes_one, may_follow, may_match
from chaos.checker.kept import Kept
from chaos.checker.seen import ACQUIRES, Seen, lease_in, may_have_happened, user_in, users_of
from chaos.checker.violations import Violation, shown
from chaos.history import Call

Json = dict[str, object]


def users_that_are_missing(rule: str, seen: Seen, kept: Kept) -> Iterator[Violation]:
    """Of those that were created, imported or in an applied file. Not those that a later call may have deleted.

    Deletions of many are told apart by the labels that users are made with, which no client changes.
    """
    if any(_may_be_of_any_login(call) for call in seen.calls):
        return
    deletions = [call for call in seen.calls if changes_many(call, "delete")]
    logins = {str(user["login"]).lower() for user in kept.users.values()}
    for call in seen.calls:
        made = [user for user in _made_by(call) if not _may_be_deleted(call, user, deletions)]
        seen.compared[rule] += len(made)
        missing = [str(user["login"]) for user in made if str(user["login"]).lower() not in logins]
        if missing:
            what = f"{len(missing)} users of {call.client} are not in the database, {missing[0]} for one"
            yield Violation(rule, what, (shown(call),))


def _may_be_of_any_login(call: Call) -> bool:
    """A deletion by an id, or another login: then the history does not say which login is gone."""
    is_rename = call.operation == "update_user" and "login" in call.body and may_have_happened(call)
    return is_rename or changes_one(call, "delete")


def _may_be_deleted(made: Call, user: Json, deletions: Iterable[Call]) -> bool:
    labels = user.get("labels") or {}
    assert isinstance(labels, dict)
    return any(may_match(call, labels) and may_follow(call, made) for call in deletions)


def _made_by(call: Call) -> Iterator[Json]:
    """The users that the answer says are there now."""
    if call.status not in {200, 201}:
        return
    match call.operation:
        case "create_user":
            yield call.body
        case "import_users":
            refused = {error["line"] for error in call.answer["errors"]}
            for number, line in enumerate(call.body.splitlines(), 1):
                if number not in refused:
                    yield json.loads(line)
        case "apply_config":
            for project in call.body["projects"]:
                yield from project.get("users", ())
        case _:
            pass


@dataclass(frozen=True, slots=True)
class _Look:
    """What an answer said of a user."""

    call: Call
    since: float
    """The farm has read it then at the earliest."""
    status: str
    """`leased` when the user was given to a test or a chore."""


def quarantines_that_are_lost(rule: str, seen: Seen, kept: Kept) -> Iterator[Violation]:
    """By all that was answered about the user until somebody may have restored it, or by the database at the end.

    The quarantines of a time are compared by that, because at the end all users are restored.
    """
    quarantines = [call for call in seen.calls if _is_lasting(call)]
    looks = _looks_at({user_in(call) for call in quarantines}, seen)
    restoring = [call for call in seen.calls if _may_restore(call)]
    for quarantine in quarantines:
        user_id = user_in(quarantine)
        over_at = _restored_at(quarantine, restoring)
        for look in looks[user_id]:
            if look.since >= quarantine.ended_at and look.call.ended_at <= over_at:
                seen.compared[rule] += 1
                if look.status in {"active", "dirty", "leased"}:
                    what = f"user {user_id} was quarantined by {quarantine.client}, and is {look.status} after that"
                    yield Violation(rule, what, (shown(quarantine), shown(look.call)))
                    break
        if over_at == float("inf") and (user := kept.users.get(user_id)) is not None:
            seen.compared[rule] += 1
            if user["status"] not in {"quarantined", "retired"}:
                what = f"user {user_id} was quarantined by {quarantine.client}, and is {user['status']} in the database"
                yield Violation(rule, what, (shown(quarantine),))


def _is_lasting(call: Call) -> bool:
    return call.operation == "quarantine_user" and call.status == 200 and not call.body.get("until")


def _may_restore(call: Call) -> bool:
    """Or set an end to the quarantine."""
    is_ending = (changes_one(call, "quarantine") and not _is_lasting(call)) or changes_many(
        call, "quarantine"
    )
    return is_ending or changes_one(call, "restore") or changes_many(call, "restore")


def _restored_at(quarantine: Call, restoring: Iterable[Call]) -> float:
    """The earliest moment at which somebody may have restored the user."""
    return min(
        (
            max(call.sent_at, quarantine.sent_at)
            for call in restoring
            if may_follow(call, quarantine) and ("/bulk" in call.path or user_in(call) == user_in(quarantine))
        ),
        default=float("inf"),
    )


def _looks_at(user_ids: set[str], seen: Seen) -> dict[str, list[_Look]]:
    looks: dict[str, list[_Look]] = defaultdict(list)
    for call in seen.calls:
        if call.operation == "get_users" and call.status == 200:
            for user in call.answer["items"]:
                if user["id"] in user_ids:
                    looks[user["id"]].append(_Look(call, call.sent_at, user["status"]))
        elif call.operation == "get_user" and call.status == 200 and user_in(call) in user_ids:
            looks[user_in(call)].append(_Look(call, call.sent_at, call.answer["status"]))
        elif call.operation in ACQUIRES and lease_in(call) and call.answer["purpose"] != "hold":
            for user_id in user_ids.intersection(users_of(call)):
                looks[user_id].append(_Look(call, seen.asked_at(call), "leased"))
    return looks
