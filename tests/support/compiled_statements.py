"""One cache of compiled statements for all engines of a pytest process.

Each test opens engines of its own, which would compile the same statements anew: an eighth of the test's own time.
"""

from typing import Any


class CompiledStatements(dict[Any, Any]):
    """SQLAlchemy's key begins with the dialect. All engines here speak the same one, each by an object of its own."""

    def get(self, key: tuple[Any, ...], default: Any = None) -> Any:
        return super().get(key[1:], default)

    def __setitem__(self, key: tuple[Any, ...], compiled: Any) -> None:
        super().__setitem__(key[1:], compiled)
