"""Hands a lease to the later steps of a GitHub Actions job, after masking its credentials in the log."""

import os
from pathlib import Path
from uuid import uuid4

from botfarm_client.commands.leases.variables import (
    USERS,
    USERS_FILE,
    Variables,
    users_file,
    with_users_file,
)
from botfarm_client.commands.shared.command_errors import CommandError, ExitCode
from botfarm_client.commands.shared.output import say
from botfarm_client.masks.lease_secrets import Users
from botfarm_client.masks.log_masks import mask_lines


def require_files() -> None:
    """Raises CommandError without the runner's files. Called before a user is taken."""
    for name in ("GITHUB_ENV", "GITHUB_OUTPUT"):
        if not os.environ.get(name):
            raise CommandError(
                f"{name} is not set: --format github is for steps of GitHub Actions; "
                "elsewhere say --format env",
                exit_code=ExitCode.USAGE,
            )


def say_masks(users: Users, *, document: str = "") -> None:
    """Prints the masks to standard output, so that the runner reads them before the lines that follow."""
    for line in mask_lines(users, document=document):
        say(line.encode())  # the runner reads UTF-8 in any locale


def hand_on(variables: Variables, users: Users) -> None:
    """Writes variables for later steps, and the public ones as outputs of the job. Raises CommandError."""
    file = users_file(_temporary_folder())
    try:
        handed_on = with_users_file(variables, file, beside=_environment_of_later_steps())
        say_masks(users, document=variables[USERS])
        outputs = {name.removeprefix("BOTFARM_").lower(): value for name, value in variables.items()}
        _append("GITHUB_ENV", _without_an_earlier_lease(handed_on))
        _append("GITHUB_OUTPUT", {name: outputs[name] for name in ("lease_id", "user_id", "login")})
    except BaseException:
        file.unlink(missing_ok=True)
        raise


def _temporary_folder() -> Path:
    """The folder that the runner empties when the job ends."""
    return Path(os.environ.get("RUNNER_TEMP") or Path(os.environ["GITHUB_ENV"]).parent)


def _environment_of_later_steps() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in {USERS, USERS_FILE}}


def _without_an_earlier_lease(variables: Variables) -> Variables:
    """Empties the variables of an earlier lease, because variables of a job cannot be removed."""
    return {name: "" for name in (USERS, USERS_FILE) if os.environ.get(name)} | variables


def _append(file: str, variables: Variables) -> None:
    # The delimiter is random, so no value can contain it and set a variable of its own.
    delimiter = f"botfarm_{uuid4().hex}"
    text = "".join(f"{name}<<{delimiter}\n{value}\n{delimiter}\n" for name, value in variables.items())
    try:
        with Path(os.environ[file]).open("a", encoding="utf-8", newline="\n") as opened:
            opened.write(text)
    except OSError as error:
        raise CommandError(f"cannot write to the file of {file}: {error.strerror}") from None
