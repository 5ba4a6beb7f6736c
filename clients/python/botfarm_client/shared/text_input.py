"""Text from the environment, files and pipes, without the blanks and marks that editors and shells add.

Windows PowerShell 5 writes a byte order mark before what it pipes, and UTF-16 into files; Notepad and forms
of CI settings leave line ends.
"""

import codecs
import os

_BYTE_ORDER_MARK = "\ufeff"


def stripped(text: str) -> str:
    """The text without white space and byte order marks at both ends."""
    while text != (shorter := text.strip().strip(_BYTE_ORDER_MARK)):
        text = shorter
    return text


def variable(name: str) -> str | None:
    """A variable of the environment, stripped. None if it is not set or empty."""
    return stripped(os.environ.get(name, "")) or None


def strip_variables(prefix: str = "BOTFARM_") -> None:
    """Strips our variables in the environment of this process, and so of its children.

    No valid value begins or ends with a blank, a line end or a byte order mark.
    """
    for name, value in os.environ.items():
        if name.startswith(prefix) and value != stripped(value):
            os.environ[name] = stripped(value)


def decoded(content: bytes) -> str:
    """The text of UTF-8, or of UTF-16 with a byte order mark; without the mark. Raises UnicodeDecodeError."""
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if is_utf16 else "utf-8-sig")
