"""No password anywhere but in its holder's answer."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from chaos.checker.found_passwords import Passwords
from chaos.checker.kept import Kept
from chaos.checker.seen import ACQUIRES, Seen, lease_in
from chaos.checker.violations import Violation, shown
from chaos.history import Call, Json

PASSWORDS_KEPT = "passwords for the holder only"

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
        seen.compared[PASSWORDS_KEPT] += 1
        if passwords.in_text(call.answer if isinstance(call.answer, str) else json.dumps(call.answer)):
            yield Violation(
                PASSWORDS_KEPT, f"{call.client} got a password from {call.operation}", (shown(call),)
            )
    for place in kept.passwords_in:
        yield Violation(PASSWORDS_KEPT, f"a password is in plain text in the table {place}")
    for log in logs:
        with log.open(errors="replace") as lines:
            for number, line in enumerate(lines, 1):
                seen.compared[PASSWORDS_KEPT] += 1
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
