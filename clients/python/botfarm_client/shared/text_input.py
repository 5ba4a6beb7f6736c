"""Text from the environment, files and pipes, without what editors, shells and CI settings put around it.

Windows PowerShell 5 writes a byte order mark before what it pipes, and UTF-16 into files; Notepad and forms of CI settings
leave line ends.
"""

import codecs
import os

_BYTE_ORDER_MARK = "\ufeff"


def stripped(text: str) -> str:
    """Without white space and byte order marks at both ends."""
    while text != (shorter := text.strip().strip(_BYTE_ORDER_MARK)):
        text = shorter
    return text


def variable(name: str) -> str | None:
    """A variable of the environment. None when it is not set or empty: for us the two are the same."""
    return stripped(os.environ.get(name, "")) or None


def strip_variables(prefix: str = "BOTFARM_") -> None:
    """In this process and its children. No value of ours begins or ends with a blank, a line end or a mark."""
    for name, value in os.environ.items():
        if name.startswith(prefix) and value != stripped(value):
            os.environ[name] = stripped(value)


def decoded(content: bytes) -> str:
    """UTF-8, or UTF-16 where a byte order mark says so; without the mark. Raises UnicodeDecodeError."""
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if is_utf16 else "utf-8-sig")
