# ruff: noqa: INP001  a program, not part of a package
"""Installs what a file locks, with a pip for each processor.

pip looks at each file of each release of a package, to find those that fit, and does so with one processor.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

MOST_PIPS = 4
_REQUIREMENT = re.compile(r"^\S.*(?:\n\s.*)*", re.MULTILINE)
"""A version of a package, and the hashes of its files in lines of their own."""
_OPTIONS = ("--quiet", "--disable-pip-version-check", "--require-hashes", "--no-deps")


def install(file: Path) -> int:
    """Gives the exit code. Whatever a package depends on is in the file, so each pip can do without the other's."""
    requirements = _REQUIREMENT.findall(file.read_text())
    processors = min(os.cpu_count() or 1, MOST_PIPS)
    with tempfile.TemporaryDirectory() as folder:
        started = []
        for number in range(processors):
            part = Path(folder, f"{number}.txt")
            part.write_text("\n".join(requirements[number::processors]))
            command = (sys.executable, "-m", "pip", "install", *_OPTIONS, "-r", part)
            started.append(subprocess.Popen(command))  # noqa: S603  programs and arguments are this module's own
        exit_codes = [pip.wait() for pip in started]
        return int(any(exit_codes))


if __name__ == "__main__":
    sys.exit(install(Path(sys.argv[1])))
