"""The secrets of new users, which a farm file names and does not have: `{env: NAME}` or `{file: PATH}`."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botfarm_client.shared.json_objects import json_object
from botfarm_client.shared.text_input import decoded, stripped


class SeedError(ValueError):
    """The message says why there is no secret, and never a part of it."""


@dataclass(frozen=True, slots=True)
class Seed:
    env: str | None
    """The name of a variable."""
    file: Path | None

    @staticmethod
    def of(written: Mapping[str, Any], folder: Path) -> "Seed":
        """Raises SeedError. A file is looked for in the folder of the farm file."""
        if len(written) != 1 or not any(written.values()):
            raise SeedError("must be {env: NAME} or {file: PATH}")
        file = written.get("file")
        return Seed(written.get("env"), folder / file if file else None)

    def read(self, field: str) -> Any:
        """The value of this field of a user. Raises SeedError."""
        content = self._content()
        match field:
            case "secrets":
                found = json_object(content)
                if found is None:
                    raise SeedError(f"{self._name} has no JSON object")
                return found
            case "totp_seed":
                text = stripped(self._text(content))
            case _:  # blanks may be a part of a password
                text = self._text(content).removesuffix("\n").removesuffix("\r")
        if not text:
            raise SeedError(f"{self._name} is empty")
        if "\n" in text:
            raise SeedError(f"{self._name} has more than one line")
        return text

    @property
    def _name(self) -> str:
        return f"the variable {self.env}" if self.env else f"the file {self.file}"

    def _content(self) -> bytes:
        if self.env:
            value = os.environ.get(self.env)
            if value is None:
                raise SeedError(f"{self._name} is not set")
            return os.fsencode(value)
        assert self.file is not None  # noqa: S101  for the type checker
        try:
            return self.file.read_bytes()
        except OSError as error:
            raise SeedError(f"cannot read {self._name}: {error.strerror}") from None

    def _text(self, content: bytes) -> str:
        try:
            return decoded(content)
        except UnicodeDecodeError:
            raise SeedError(f"{self._name} is neither UTF-8 nor UTF-16 text") from None
