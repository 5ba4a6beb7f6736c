"""JSON that needs no quoting tricks in shells and in files of variables."""

import json
import re

# Escapes of one character such as \n and \", and what shells and readers of .env files give a meaning.
_SPECIAL = re.compile(r"\\(u[0-9a-f]{4}|.)|['$`#]")
_SHORT = {'"': '"', "\\": "\\", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def plain_json(document: object) -> str:
    r"""One line of ASCII without `'`, `$`, `` ` `` and `#`. Its only escapes are `\uXXXX`."""
    return _SPECIAL.sub(_escape, json.dumps(document, separators=(",", ":")))


def _escape(found: re.Match[str]) -> str:
    escaped = found[1]
    if escaped and len(escaped) > 1:
        return found[0]
    return f"\\u{ord(_SHORT[escaped] if escaped else found[0]):04x}"
