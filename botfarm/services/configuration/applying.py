"""Carries a plan out, within the transaction of its caller."""

import asyncio
import json
from collections.abc import Collection, Iterator, Mapping
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.access import audit_queries
from botfarm.db.leasing import advisory_locks
from botfarm.db.stock import managed_queries, project_queries, status_queries, user_queries
from botfarm.db.stock.managed_queries import KnownUser, UserChange
from botfarm.db.stock.user_queries import NewUser
from botfarm.domain.access import Principal
from botfarm.domain.configuration import (
    AppliedToken,
    Change,
    Deed,
    Kind,
    Plan,
    WantedFarm,
    WantedProject,
    WantedUser,
)
from botfarm.domain.logins import login_key
from botfarm.domain.pools import Pool
from botfarm.domain.projects import DEFAULT_DOMAINS, DEFAULT_ENVS, Project, ProjectPolicy
from botfarm.errors import (
    FieldError,
    InvalidRequestError,
    NoSuchProjectError,
    ProjectExistsError,
    ProjectInUseError,
)
from botfarm.services.configuration.access_applying import AccessApplying
from botfarm.services.configuration.known_farm import KnownFarm
from botfarm.services.configuration.planning import MAX_ERRORS, changed_meanwhile, settings_of
from botfarm.services.configuration.seeds import Sealed

BATCH = 1_000
"""Users of one statement."""


class Applying:
    def __init__(
        self,
        session: AsyncSession,
        principal: Principal,
        wanted: WantedFarm,
        plan: Plan,
        known: KnownFarm,
    ) -> None:
        self._session = session
        self._principal = principal
        self._wanted = wanted
        self._plan = plan
        self._known = known
        self._project_ids = {name: project.id for name, project in known.projects.items()}
        self._deeds: list[audit_queries.Deed] = []
        self.changed_projects: set[UUID] = set()
        """Projects whose settings or users have changed."""

    async def run(self, sealed: Mapping[str, Sealed]) -> tuple[AppliedToken, ...]:
        """`sealed` are the credentials of users, by their place in the file. Returns the tokens that were made."""
        await self._lock_projects()
        for change in self._changes(Kind.PROJECT):
            await self._project(change)
        await self._new_users(sealed)
        locked = await self._locked()
        await self._change_users(locked)
        await self._retire_users(locked)
        tokens = await self._change_access()
        await self._record()
        return tuple(tokens)

    async def _lock_projects(self) -> None:
        """Locks those that change or get users: all at once, because an import locks them in the same order."""
        names = {change.thing.project for change in self._plan.changes if change.deed is not Deed.RETIRE}
        known = {project.id: project for name, project in self._known.projects.items() if name in names}
        scope = self._principal.scope
        locked = await project_queries.lock_projects(self._session, known, scope, to_change=True)
        if locked != known:
            raise changed_meanwhile()

    async def _project(self, change: Change) -> None:
        wanted = self._wanted_project(change)
        settings = settings_of(wanted)
        if change.deed is Deed.CREATE:
            project = await self._new_project(wanted)
        else:
            project = await self._changed_project(change, wanted)
            await managed_queries.mark_project(self._session, project.id, file=self._wanted.name)
        self._project_ids[wanted.name] = project.id
        self.changed_projects.add(project.id)
        operation = "create_project" if change.deed is Deed.CREATE else "update_project"
        self._say(operation, change, project.id, settings, project.id)

    async def _new_project(self, wanted: WantedProject) -> Project:
        settings = settings_of(wanted)
        try:
            return await project_queries.insert_project(
                self._session,
                project_id=uuid4(),
                name=wanted.name,
                envs=settings.pop("envs", DEFAULT_ENVS),
                domains=settings.pop("domains", DEFAULT_DOMAINS),
                policy=ProjectPolicy(**settings),
                managed_by=self._wanted.name,
            )
        except ProjectExistsError:
            raise changed_meanwhile() from None

    async def _changed_project(self, change: Change, wanted: WantedProject) -> Project:
        project_id = self._project_ids[wanted.name]
        try:
            project = await project_queries.update_project(self._session, project_id, wanted.settings)
        except ProjectInUseError as error:
            raise InvalidRequestError(FieldError(str(change.where), "project-in-use", error.detail)) from None
        if project is None:
            raise changed_meanwhile()
        return project

    async def _new_users(self, sealed: Mapping[str, Sealed]) -> None:
        changes = list(self._changes(Kind.USER, Deed.CREATE))
        missing = [
            FieldError(f"{change.where}.password", "missing", "a new user needs a password")
            for change in changes
            if change.where not in sealed
        ]
        if missing:
            raise InvalidRequestError(*missing[:MAX_ERRORS])
        users = await asyncio.to_thread(self._sorted_users, changes, sealed)
        for start in range(0, len(users), BATCH):
            batch = users[start : start + BATCH]
            try:
                inserted = await user_queries.insert_users(self._session, batch, managed_by=self._wanted.name)
            except NoSuchProjectError:
                raise changed_meanwhile() from None
            if len(inserted) < len(batch):
                raise changed_meanwhile()

    def _sorted_users(self, changes: Collection[Change], sealed: Mapping[str, Sealed]) -> list[NewUser]:
        users = (self._new_user(change, sealed[str(change.where)]) for change in changes)
        return sorted(users, key=user_queries.insert_order)

    def _new_user(self, change: Change, sealed: Sealed) -> NewUser:
        wanted = self._wanted_user(change)
        domain = next(each.after for each in change.differences if each.field == "domain")
        pool = Pool(self._project_ids[str(change.thing.project)], wanted.env, domain)  # type: ignore[arg-type]
        self.changed_projects.add(pool.project_id)
        self._say_of_user("create_user", change, sealed.user_id, pool, login=wanted.login)
        labels = json.dumps(dict(wanted.labels or {}))
        key = login_key(wanted.login)
        return NewUser(sealed.user_id, wanted.login, key, sealed.credentials, pool, labels)

    async def _change_users(self, locked: Mapping[UUID, KnownUser]) -> None:
        changes = list(self._changes(Kind.USER, Deed.UPDATE, Deed.ADOPT))
        self._refuse_moves_of_leased(changes, locked)
        changed = [self._user_change(change, locked[UUID(str(change.id))]) for change in changes]
        for start in range(0, len(changed), BATCH):
            batch = changed[start : start + BATCH]
            await managed_queries.change_users(self._session, batch, file=self._wanted.name)

    def _user_change(self, change: Change, user: KnownUser) -> UserChange:
        wanted = self._wanted_user(change)
        self.changed_projects.add(user.pool.project_id)
        details = {each.field: each.after for each in change.differences}
        self._say_of_user("update_user", change, user.id, user.pool, **details)
        labels = user.labels if wanted.labels is None else wanted.labels
        return UserChange(user.id, wanted.domain or user.pool.domain, json.dumps(dict(labels)))

    def _refuse_moves_of_leased(self, changes: Collection[Change], locked: Mapping[UUID, KnownUser]) -> None:
        leased = [
            FieldError(f"{change.where}.domain", "user-busy", "the user is leased: apply when it is free")
            for change in changes
            if locked[UUID(str(change.id))].is_leased
            and any(each.field == "domain" for each in change.differences)
        ]
        if leased:
            raise InvalidRequestError(*leased[:MAX_ERRORS])

    async def _retire_users(self, locked: Mapping[UUID, KnownUser]) -> None:
        changes = list(self._changes(Kind.USER, Deed.RETIRE))
        reason = f"no longer in {self._wanted.name}"
        for change in changes:
            user = locked[UUID(str(change.id))]
            self._say_of_user("retire_user", change, user.id, user.pool, reason=reason)
        await status_queries.retire(
            self._session,
            [UUID(str(change.id)) for change in changes],
            self._principal.scope,
            by=self._principal.name,
            reason=reason,
        )

    async def _locked(self) -> dict[UUID, KnownUser]:
        """Locks the users that exist and are changed: after their pools, as a bulk change does, and all at once.

        Raises ChangedMeanwhileError for one that is not as it was when the plan was made.
        """
        ids = sorted(
            UUID(str(change.id)) for change in self._changes(Kind.USER) if change.deed is not Deed.CREATE
        )
        before = {user.id: user for user in (*self._known.users.values(), *self._known.managed_users)}
        pools = {before[user_id].pool for user_id in ids}
        for pool in sorted(pools, key=lambda pool: (pool.project_id, pool.env, pool.domain)):
            await advisory_locks.lock_pool(self._session, pool)
        locked = {user.id: user for user in await managed_queries.lock_users(self._session, ids)}
        if any(user_id not in locked or not locked[user_id].is_as(before[user_id]) for user_id in ids):
            raise changed_meanwhile()
        return locked

    async def _change_access(self) -> list[AppliedToken]:
        """Tokens and trust rules. Returns the tokens that were made."""
        access = AccessApplying(
            self._session,
            self._principal,
            self._known,
            self._project_ids,
            self._say,
            file=self._wanted.name,
        )
        made = []
        for change in self._changes(Kind.TOKEN):
            if change.deed is Deed.REVOKE:
                await access.revoke_token(change)
            elif token := await access.token(change, self._wanted.tokens[_numbers(change)[0]]):
                made.append(token)
        for change in self._changes(Kind.TRUST_RULE):
            if change.deed is Deed.REVOKE:
                await access.delete_trust_rule(change)
            else:
                await access.trust_rule(change, self._wanted.trust_rules[_numbers(change)[0]])
        return made

    def _changes(self, kind: Kind, *deeds: Deed) -> Iterator[Change]:
        for change in self._plan.changes:
            if change.thing.kind is kind and (not deeds or change.deed in deeds):
                yield change

    def _wanted_project(self, change: Change) -> WantedProject:
        return self._wanted.projects[_numbers(change)[0]]

    def _wanted_user(self, change: Change) -> WantedUser:
        project, user = _numbers(change)
        return self._wanted.projects[project].users[user]

    def _say_of_user(self, action: str, change: Change, user_id: UUID, pool: Pool, **details: object) -> None:
        said = self._details(change, details)
        self._deeds.append(audit_queries.Deed(action, "user", user_id, pool.project_id, pool.env, said))

    def _say(
        self,
        action: str,
        change: Change,
        target_id: object,
        details: Mapping[str, object],
        project_id: UUID | None = None,
    ) -> None:
        said = self._details(change, details)
        self._deeds.append(audit_queries.Deed(action, change.thing.kind, target_id, project_id, details=said))

    def _details(self, change: Change, details: Mapping[str, object]) -> dict[str, object]:
        adopted = {"adopted": True} if change.deed is Deed.ADOPT else {}
        return {**details, **adopted, "configuration": self._wanted.name}

    async def _record(self) -> None:
        for start in range(0, len(self._deeds), BATCH):
            await audit_queries.record_all(self._session, self._principal, self._deeds[start : start + BATCH])


def _numbers(change: Change) -> list[int]:
    return [int(part) for part in str(change.where).split(".") if part.isdigit()]
