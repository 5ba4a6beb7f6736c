"""What the end of a program says of the user of its chore."""

from typing import get_args

from botfarm_client.leasing.verdicts import Reason, Verdict
from botfarm_client.masks.lease_secrets import Users, other_secrets, passwords

DIRTY, BROKEN = 10, 11
# Characters: the API's maximum.
_LONGEST_NOTE = 1_000


def verdict_of(exit_code: int, last_line: str, users: Users) -> Verdict:
    """0 is ok, 10 dirty, 11 broken. Any other code is dirty, with the code as the note.

    After 10 and 11 the last line is the note, without the users' secrets. It may begin with a reason, as in
    `captcha: asks for a picture`, or be one.
    """
    if exit_code == 0:
        return Verdict("ok")
    if exit_code not in {DIRTY, BROKEN}:
        return Verdict("dirty", note=f"exit code {exit_code}")
    reason, note = _reason_and_note(_without_secrets(last_line, users))
    return Verdict("broken" if exit_code == BROKEN else "dirty", reason, note[-_LONGEST_NOTE:] or None)


def _reason_and_note(line: str) -> tuple[Reason | None, str]:
    name, _, text = line.partition(":")
    for reason in get_args(Reason):
        if name.strip() == reason:
            return reason, text.strip()
    return None, line


def _without_secrets(line: str, users: Users) -> str:
    secrets = {password for _, password in passwords(users)} | other_secrets(users)
    for secret in sorted(secrets, key=len, reverse=True):
        line = line.replace(secret, "***")
    return line
