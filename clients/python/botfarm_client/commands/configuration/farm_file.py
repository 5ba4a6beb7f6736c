"""A farm file: the body of the API that it stands for, the seeds of its users, and the line of each place."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from botfarm_client.commands.configuration.file_errors import (
    FarmFileError,
    Mistake,
    path_in_list,
    path_in_map,
)
from botfarm_client.commands.configuration.login_ranges import MAX_USERS, RangeError, expanded
from botfarm_client.commands.configuration.schema_reader import SchemaReader
from botfarm_client.commands.configuration.seeds import Seed, SeedError
from botfarm_client.commands.configuration.yaml_tree import read_yaml
from botfarm_client.commands.shared.issuers import issuer_address

SEEDS = ("password", "secrets", "totp_seed")


def schema_text() -> str:
    return files(__package__).joinpath("farm.schema.json").read_text("utf-8")


@dataclass(slots=True)
class FarmFile:
    body: dict[str, Any]
    """As `plan_config` takes it: without a secret."""
    seeds: dict[str, dict[str, Seed]] = field(default_factory=dict)
    """Of each user that has some, by its place in the body, such as `projects.0.users.3`."""
    places: dict[str, str] = field(default_factory=dict)
    """The place in the file of each thing, by its place in the body."""
    logins: dict[str, str] = field(default_factory=dict)
    """Of users that come from a range, by their place in the body."""
    lines: dict[str, int] = field(default_factory=dict)
    """By the place in the file."""

    def with_seeds(self, places: Iterable[str]) -> dict[str, Any]:
        """The body with the secrets of the users at these places of the body. Raises FarmFileError."""
        errors: dict[Mistake, None] = {}  # each once, also where a range stands for many users
        body = {**self.body, "projects": [dict(project) for project in self.body["projects"]]}
        for project in body["projects"]:
            project["users"] = list(project["users"])
        for place in places:
            _, project_number, _, number = place.split(".")
            users = body["projects"][int(project_number)]["users"]
            users[int(number)] = {**users[int(number)], **self._secrets(place, errors)}
        if errors:
            raise FarmFileError(list(errors))
        return body

    def without_password(self, places: Iterable[str]) -> list[Mistake]:
        """Of the users at these places of the body those that have no seed of a password."""
        missing = {
            self.places[place]: None for place in places if "password" not in self.seeds.get(place, {})
        }
        return [
            Mistake(self.lines[place], path_in_map(place, "password"), "is missing, and this user is new")
            for place in missing
        ]

    def error(self, field_name: str, message: str) -> Mistake:
        """An error of the API at a field of the body, with its place and line in the file."""
        parts, rest = field_name.split("."), []
        while parts and ".".join(parts) not in self.places:
            rest.append(parts.pop())
        found = ".".join(parts)
        place, line = self.places.get(found, ""), 1
        rest.reverse()
        if rest == ["name"] and place:  # the key itself, in the file
            rest = []
        for part in ["", *rest]:
            place = path_in_map(place, part) if part else place
            line = self.lines.get(place, line)
        login = f"{self.logins[found]}: " if found in self.logins else ""
        return Mistake(line, place, f"{login}{message}")

    def _secrets(self, place: str, errors: dict[Mistake, None]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, seed in self.seeds.get(place, {}).items():
            try:
                found[name] = seed.read(name)
            except SeedError as error:
                written = path_in_map(self.places[place], name)
                errors[Mistake(self.lines[written], written, str(error))] = None
        return found


def read_farm_file(content: bytes, folder: Path) -> FarmFile:
    """Raises FarmFileError."""
    reader = SchemaReader(json.loads(schema_text()))
    read = reader.read(read_yaml(content))
    if reader.errors:
        raise FarmFileError(reader.errors)
    building = _Building(folder, reader.lines)
    body = building.body(read)
    if building.errors:
        raise FarmFileError(building.errors)
    return FarmFile(body, building.seeds, building.places, building.logins, reader.lines)


class _Building:
    """Turns maps by name into lists, and ranges of logins into users."""

    def __init__(self, folder: Path, lines: Mapping[str, int]) -> None:
        self.errors: list[Mistake] = []
        self.seeds: dict[str, dict[str, Seed]] = {}
        self.places: dict[str, str] = {}
        self.logins: dict[str, str] = {}
        self._folder = folder
        self._lines = lines
        self._users = 0

    def body(self, read: Mapping[str, Any]) -> dict[str, Any]:
        projects = [
            {**project, "users": list(self._users_of(place, f"projects.{name}", project.get("users", ())))}
            for place, name, project in self._named("projects", read.get("projects", {}))
        ]
        tokens = [token for _, _, token in self._named("tokens", read.get("tokens", {}))]
        rules = [
            {**rule, "issuer": issuer_address(rule["issuer"])}
            for _, _, rule in self._named("trust_rules", read.get("trust_rules", {}))
        ]
        return {**read, "projects": projects, "tokens": tokens, "trust_rules": rules}

    def _named(self, kind: str, things: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
        for number, (name, thing) in enumerate(things.items()):
            place = f"{kind}.{number}"
            self.places[place] = path_in_map(kind, name)
            yield place, name, {"name": name, **thing}

    def _users_of(
        self, place: str, project: str, users: Collection[Mapping[str, Any]]
    ) -> Iterator[dict[str, Any]]:
        number = 0
        for index, user in enumerate(users):
            written = path_in_list(f"{project}.users", index)
            seeds = {
                name: seed for name in SEEDS if name in user and (seed := self._seed(written, name, user))
            }
            logins = self._logins(written, user["login"])
            for login in logins:
                here = f"{place}.users.{number}"
                number += 1
                self.places[here] = written
                if len(logins) > 1:
                    self.logins[here] = login
                if seeds:
                    self.seeds[here] = seeds
                yield {**{name: each for name, each in user.items() if name not in SEEDS}, "login": login}

    def _logins(self, place: str, login: str) -> list[str]:
        try:
            logins = expanded(login)
        except RangeError as error:
            self._refuse(f"{place}.login", str(error))
            return []
        self._users += len(logins)
        if self._users > MAX_USERS:
            self._refuse(f"{place}.login", f"a file has at most {MAX_USERS:,} users")
            return []
        return logins

    def _seed(self, place: str, name: str, user: Mapping[str, Any]) -> Seed | None:
        try:
            return Seed.of(user[name], self._folder)
        except SeedError as error:
            self._refuse(f"{place}.{name}", str(error))
            return None

    def _refuse(self, place: str, message: str) -> None:
        self.errors.append(Mistake(self._lines.get(place, 1), place, message))
