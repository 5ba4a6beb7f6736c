"""Variables as text, for POSIX shells and for programs that read `.env` files."""

import re
import shlex

from botfarm_client.commands.leases.variables import Variables
from botfarm_client.commands.shared.command_errors import CommandError

# Characters that readers of .env files take literally: python-dotenv, dotenv and `--env-file` of Node.js,
# `env_file` of Compose.
_IN_SINGLE_QUOTES = re.compile(r"(?!.*\$\{)(?:[^'\\\r\n]|\\(?![\\\r\n]|$))*")
_IN_DOUBLE_QUOTES = re.compile(r'[^"\\$`\r\n]*')
_BARE = re.compile(r"(?!['\"`\s])[^$#\r\n]*(?<!\s)")


def shell_lines(variables: Variables) -> str:
    """Lines for `eval "$(...)"` in a POSIX shell. They export the variables to the programs of the script."""
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())


def dotenv_lines(variables: Variables) -> str:
    """Lines `NAME='value'`, which all those readers understand alike.

    Raises CommandError for a value that they do not.
    """
    return "\n".join(f"{name}={_dotenv_value(name, value)}" for name, value in variables.items())


def _dotenv_value(name: str, value: str) -> str:
    if _IN_SINGLE_QUOTES.fullmatch(value):
        return f"'{value}'"
    if _IN_DOUBLE_QUOTES.fullmatch(value):
        return f'"{value}"'
    if _BARE.fullmatch(value):
        return value
    raise CommandError(
        f"{name} has characters that readers of .env files do not read alike, such as a line break, "
        "${ or several kinds of quotes: take it with --format env, --json or `botfarm exec`"
    )
