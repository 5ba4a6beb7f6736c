"""Where an apply keeps the tokens that it has made, since nothing shows them again."""

import os
from pathlib import Path

from botfarm_client.commands.shared.command_errors import CommandError
from botfarm_client.connection.api_calls import Json


def require_folder(folder: Path | None, names: list[str]) -> None:
    """Makes the folder for these tokens, before they are made. Raises CommandError."""
    if not names:
        return
    if folder is None:
        raise CommandError(
            f"to make the token {names[0]} say --tokens-to DIR: it is written there and shown nowhere else"
        )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"cannot make {folder}: {error.strerror}") from None
    if not os.access(folder, os.W_OK):
        raise CommandError(f"cannot write into {folder}")


def write_token(folder: Path, token: Json) -> Path:
    """Writes a token to a file of its name, which only its owner may read."""
    path = folder / str(token["name"])
    try:
        path.unlink(missing_ok=True)  # of an earlier token, perhaps with another mode
        with os.fdopen(
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii"
        ) as file:
            file.write(f"{token['token']}\n")
    except OSError as error:
        raise CommandError(
            f"the token {token['name']} was made and cannot be written: {error.strerror}; "
            f"`botfarm tokens revoke {token['id']}` ends it, and an apply makes another"
        ) from None
    return path
