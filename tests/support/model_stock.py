"""The users and projects of the model, and what is done to them by hand."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from botfarm import errors
from botfarm.domain.leases import REJECTED, EndedBy
from botfarm.domain.pools import Pool, PoolCounts
from botfarm.domain.projects import ProjectPolicy
from botfarm.domain.users import BulkAction, UserChanges, UserState, UserStatus
from support import model_health
from support.model_users import ModelLease, ModelUser, Moment


@dataclass
class ModelStock:
    now: float = 0
    projects: dict[UUID, ProjectPolicy] = field(default_factory=dict)
    users: dict[UUID, ModelUser] = field(default_factory=dict)
    leases: dict[UUID, ModelLease] = field(default_factory=dict)
    """In the order of their hand-outs, so of their fences."""

    def ended_by(self, lease: ModelLease) -> EndedBy | None:
        return lease.ended_by or (EndedBy.EXPIRED if lease.expires_at <= self.now else None)

    def at(self, user: ModelUser) -> Moment:
        return Moment(user, self.projects[user.pool.project_id], self.now)

    def live_lease(self, user: ModelUser) -> ModelLease | None:
        return self.at(user).live_lease

    def state(self, user: ModelUser) -> UserState:
        return self.at(user).state

    def counts(self, users: Iterable[UUID]) -> PoolCounts:
        found = [self.at(self.users[each]) for each in users]
        number = {state.value: sum(each.state is state for each in found) for state in UserState}
        moments = (each.free_at for each in found)
        due = [moment - self.now for moment in moments if moment is not None and moment > self.now]
        total = len(found) - number[UserState.RETIRED]
        return PoolCounts(total=total, **number, next_free_in=min(due, default=None))

    def members(self, pool: Pool, labels: Iterable[tuple[str, str]] = ()) -> list[UUID]:
        wanted = set(labels)
        return [
            key for key, user in self.users.items() if user.pool == pool and wanted <= user.labels.items()
        ]

    def add_user(self, user_id: UUID, user: ModelUser) -> None:
        self._check(user.login, user.pool, among=self.users.values())
        self.users[user_id] = user

    def update_user(self, user_id: UUID, changes: UserChanges) -> ModelUser:
        user = self._user(user_id)
        where = {
            name: getattr(changes, name) or getattr(user.pool, name)
            for name in ("project_id", "env", "domain")
        }
        moved, login = Pool(**where), changes.login or user.login
        if moved != user.pool and self.live_lease(user):
            raise self._busy(user)
        self._check(login, moved, among=(each for each in self.users.values() if each is not user))
        user.login, user.pool = login, moved
        if changes.password:
            self._new_password(user, changes.password)
        labels = {**user.labels, **changes.labels}
        user.labels = {name: value for name, value in labels.items() if value is not None}
        return user

    def _new_password(self, user: ModelUser, password: str) -> None:
        """As a manager sets it, who has found out why the old one was rejected."""
        user.password = password
        model_health.trust_again(user)
        if user.status is UserStatus.QUARANTINED and user.by_policy and user.reason in REJECTED:
            user.status, user.reason = UserStatus.DIRTY, None

    def quarantine(self, user_id: UUID, *, until: float | None = None) -> ModelUser:
        user = self._user(user_id)
        if user.status is UserStatus.RETIRED:
            raise errors.UserRetiredError
        user.status, user.until, user.by_policy = UserStatus.QUARANTINED, until, False
        return user

    def restore(self, user_id: UUID, *, clean: bool | None = None) -> ModelUser:
        user = self._user(user_id)
        if user.status is UserStatus.RETIRED:
            raise errors.UserRetiredError
        model_health.restore(self.at(user), clean=clean)
        return user

    def retire(self, user_id: UUID) -> ModelUser:
        user = self._user(user_id)
        user.status, user.until, user.by_policy = UserStatus.RETIRED, None, False
        return user

    def bulk(self, action: BulkAction, ids: Iterable[UUID]) -> tuple[int, dict[UUID, str]]:
        """How many it changes, and the problem of each that it leaves out."""
        done, failed = 0, {}
        for each in ids:
            user = self.users[each]
            if action is BulkAction.DELETE and self.live_lease(user):
                failed[each] = "user-busy"
            elif action in {BulkAction.QUARANTINE, BulkAction.RESTORE} and user.status is UserStatus.RETIRED:
                failed[each] = "user-retired"
            else:
                done += self._change(action, each)
        return done, failed

    def _change(self, action: BulkAction, user_id: UUID) -> bool:
        match action:
            case BulkAction.QUARANTINE:
                self.quarantine(user_id)
            case BulkAction.RESTORE:
                return model_health.restore(self.at(self.users[user_id]), clean=None)
            case BulkAction.RETIRE:
                self.retire(user_id)
            case BulkAction.DELETE:
                del self.users[user_id]
            case BulkAction.LABEL:
                self.users[user_id].labels = {**self.users[user_id].labels, "bulk": "yes"}
        return True

    def delete_user(self, user_id: UUID) -> None:
        if self.live_lease(self._user(user_id)):
            raise self._busy(self.users[user_id])
        del self.users[user_id]

    def update_project(self, project_id: UUID, policy: Mapping[str, Any]) -> None:
        if project_id not in self.projects:
            raise errors.NoSuchProjectError
        self.projects[project_id] = replace(self.projects[project_id], **policy)

    def delete_project(self, project_id: UUID) -> None:
        if any(user.pool.project_id == project_id for user in self.users.values()):
            raise errors.ProjectInUseError
        if self.projects.pop(project_id, None) is None:
            raise errors.NoSuchProjectError

    def _user(self, user_id: UUID) -> ModelUser:
        if user_id not in self.users:
            raise errors.NoSuchUserError
        return self.users[user_id]

    def _busy(self, user: ModelUser) -> errors.UserBusyError:
        lease = self.live_lease(user)
        return errors.UserBusyError(expires_in=(lease.expires_at if lease else user.available_at) - self.now)

    def _check(self, login: str, pool: Pool, *, among: Iterable[ModelUser]) -> None:
        if pool.project_id not in self.projects:
            raise errors.NoSuchProjectError
        for user in among:
            there = (user.pool.project_id, user.pool.env, user.login.lower())
            if there == (pool.project_id, pool.env, login.lower()):
                raise errors.UserExistsError
