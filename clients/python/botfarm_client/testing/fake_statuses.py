"""What people do with users of a fake farm: quarantine, restore, retire, one by one or in bulk."""

from collections.abc import Mapping
from typing import Any

from botfarm_client.testing.fake_state import state
from botfarm_client.testing.fake_stock import FakeStock
from botfarm_client.testing.fake_users import FakeProblem, FakeUser

PRINCIPAL = "fake"
"""Who asks; the fake farm knows one token."""

_MADE_BY = {"quarantine": "quarantined", "retire": "retired"}
"""The status that an action with a reason makes."""


class FakeStatuses:
    def __init__(self, stock: FakeStock, project_id: str) -> None:
        self._stock = stock
        self._project_id = project_id

    def change(self, user_id: str, action: str, body: Mapping[str, Any]) -> FakeUser:
        """`quarantine`, `restore` or `retire`. Raises FakeProblem."""
        with self._stock.lock:
            user = self._stock.user(user_id)
            self._carry_out(user, action, body)
            return user

    def change_many(self, body: Mapping[str, Any]) -> dict[str, Any]:
        with self._stock.lock:
            self._stock.settle()
            chosen = self._chosen(body.get("filter"), body.get("ids", []))
            unknown = set(body.get("ids", [])) - {user.id for user in chosen}
            failed = [
                {"id": each, "login": None, "problem": "no-such-user"}
                for each in body.get("ids", [])
                if each in unknown
            ]
            done = replaced = 0
            for user in chosen:
                replaces = user.status == _MADE_BY.get(body["action"])
                try:
                    done += self._carry_out(user, body["action"], body, dry_run=body.get("dry_run", False))
                except FakeProblem as problem:
                    failed.append({"id": user.id, "login": user.login, "problem": problem.slug})
                else:
                    replaced += replaces
            return {"matched": len(chosen), "done": done, "replaced": replaced, "failed": failed}

    def _carry_out(
        self, user: FakeUser, action: str, body: Mapping[str, Any], *, dry_run: bool = False
    ) -> bool:
        """Whether it changes the user; a restore leaves an active one as it is."""
        if user.status == "retired" and action in {"quarantine", "restore"}:
            raise FakeProblem("user-retired")
        if user.live_lease and action == "delete":
            raise FakeProblem("user-busy")
        if action == "restore" and user.status == "active":
            return False
        if not dry_run:
            getattr(self, f"_{action}")(user, body)
        return True

    def _quarantine(self, user: FakeUser, body: Mapping[str, Any]) -> None:
        user.set_status("quarantined", by=PRINCIPAL, reason=body["reason"], until=body.get("until"))

    def _restore(self, user: FakeUser, body: Mapping[str, Any]) -> None:
        clean = self._stock.policy.cleans_after_tests if body.get("clean") is None else body["clean"]
        user.set_status("dirty" if clean or user.pending_password is not None else "active", by=PRINCIPAL)
        user.failures = user.failed_chores = 0
        user.health_reason = None
        if user.health == "failing":
            user.health = "unknown"

    def _retire(self, user: FakeUser, body: Mapping[str, Any]) -> None:
        user.set_status("retired", by=PRINCIPAL, reason=body["reason"])

    def _delete(self, user: FakeUser, _: Mapping[str, Any]) -> None:
        self._stock.users.remove(user)

    def _label(self, user: FakeUser, body: Mapping[str, Any]) -> None:
        merged = {**user.labels, **body["labels"]}
        user.labels = {name: value for name, value in merged.items() if value is not None}

    def _chosen(self, wanted: Mapping[str, Any] | None, ids: list[str]) -> list[FakeUser]:
        if wanted is None:
            return [user for user in self._stock.users if user.id in ids]
        return [user for user in self._stock.users if self._matches(user, wanted)]

    def _matches(self, user: FakeUser, wanted: Mapping[str, Any]) -> bool:
        has = {
            "project_id": self._project_id,
            "env": user.env,
            "domain": user.domain,
            "state": state(user),
            "health": user.health,
            "login": user.login,
        }
        is_found = (wanted.get("search") or "").casefold() in user.login.casefold()
        has_labels = wanted.get("labels", {}).items() <= user.labels.items()
        return (
            is_found and has_labels and all(wanted.get(name) in {None, value} for name, value in has.items())
        )
