"""JSON that shells and files of variables need not escape."""

import json
import re

# Short escapes such as \n and \", and characters that have a meaning in shells and .env files.
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
