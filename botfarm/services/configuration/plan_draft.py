"""What a plan has so far: changes, things left alone, and errors of the file."""

from collections.abc import Iterator, Mapping
from uuid import UUID

from botfarm.domain.configuration import Change, Deed, Difference, LeftAlone, Thing, WantedFarm, WhyLeft
from botfarm.errors import FieldError


class PlanDraft:
    def __init__(self, wanted: WantedFarm) -> None:
        self.changes: list[Change] = []
        self.left_alone: list[LeftAlone] = []
        self.unnamed: list[Thing] = []
        self.errors: list[FieldError] = []
        self._wanted = wanted
        self._places: dict[object, str] = {}

    def settle(
        self,
        where: str,
        thing: Thing,
        thing_id: UUID | str,
        managed_by: str | None,
        differences: tuple[Difference, ...],
    ) -> bool:
        """Changes what is there, if it is the file's or the file takes it over. True when it is to be changed."""
        if managed_by == self._wanted.name:
            if differences:
                self.changes.append(Change(thing, Deed.UPDATE, differences, where, thing_id))
            return bool(differences)
        if self._wanted.adopt:
            self.changes.append(Change(thing, Deed.ADOPT, differences, where, thing_id))
            return True
        reason = WhyLeft.NOT_MANAGED if managed_by is None else WhyLeft.MANAGED_ELSEWHERE
        self.left_alone.append(LeftAlone(thing, reason, differences))
        return False

    def not_named(self, thing: Thing, deed: Deed, thing_id: UUID | str) -> None:
        if self._wanted.prune:
            self.changes.append(Change(thing, deed, id=thing_id))
        else:
            self.unnamed.append(thing)

    def is_there_twice(self, where: str, key: object) -> bool:
        first = self._places.setdefault(key, where)
        if first != where:
            self.refuse(where, "duplicate", "is in the file twice: two of the same are one account")
        return first != where

    def refuse(self, where: str, code: str, message: str) -> None:
        self.errors.append(FieldError(where, code, message))


def differences_of_map(
    field: str, before: Mapping[str, str], after: Mapping[str, str]
) -> Iterator[Difference]:
    for key in sorted({*before, *after}):
        if before.get(key) != after.get(key):
            yield Difference(f"{field}.{key}", before.get(key), after.get(key))
