"""TypeScript's compiler, for npm packages that bring types: it also refuses properties that no type has."""

import json
from pathlib import Path
from typing import Any

from stages import TOOLS, run, skip, tool

NODE_MODULES = TOOLS / "node_modules"
OPTIONS = ("--strict", "--skipLibCheck", "--module", "nodenext", "--target", "es2022")


def compile_typescript(source: Path, *, with_types_of: str) -> None:
    """Puts the JavaScript beside it."""
    if not (NODE_MODULES / with_types_of).exists():
        skip(with_types_of, "not in .venv/ops: npm is needed to install it")
    (source.parent / "node_modules").symlink_to(NODE_MODULES)
    run(tool("node"), str(NODE_MODULES / "typescript/bin/tsc"), *OPTIONS, source.name, cwd=source.parent)


def spoilt(document: dict[str, Any], where: tuple[str | int, ...], wrong: object) -> dict[str, Any]:
    """A copy with something wrong in one place."""
    copy: dict[str, Any] = json.loads(json.dumps(document))
    *path, last = where
    inner: Any = copy
    for step in path:
        inner = inner[step]
    inner[last] = wrong
    return copy
