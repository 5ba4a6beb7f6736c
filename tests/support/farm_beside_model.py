"""The farm and the model of its rules side by side: how both are asked, and what it means that they agree."""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, TypeVar
from uuid import UUID, uuid4

import asyncpg
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, multiple, run_state_machine_as_test

from botfarm import errors
from botfarm.crypto.key_ring import KeyRing
from botfarm.domain.access import Principal
from botfarm.domain.leases import Grant, Lease, LeaseTerms, Purpose
from botfarm.domain.pools import Pool
from botfarm.domain.projects import ProjectPolicy
from botfarm.domain.users import LineError, OnError, UserLine, UserStatus
from botfarm.runtime.services import Services
from support.farm import KEEPER, KEYS, MANAGER, OTHER_RUNNER, RUNNER, Connection, Farm
from support.model import Model
from support.model_users import ModelLease, ModelUser, Wanted
from support.time_travel import pass_time

# Of each machine.
EXAMPLES = int(os.environ.get("BOTFARM_HYPOTHESIS_EXAMPLES", "8"))
STEPS = 50
# Each step of time is a second more than a multiple of 100 s. After this many steps, a deadline of 30 s or 100 s is
# still at least 10 s away.
MOST_TIME_STEPS = 20

T = TypeVar("T")

PRINCIPALS = {each.name: each for each in (RUNNER, OTHER_RUNNER, KEEPER, MANAGER)}

LINE_ERRORS: dict[type[errors.BotfarmError], tuple[str, str]] = {
    errors.NoSuchProjectError: ("project_id", "no-such-project"),
    errors.UserExistsError: ("login", "user-exists"),
}


@dataclass(frozen=True)
class World:
    """One farm and one event loop for all examples."""

    runner: asyncio.Runner
    farm: Farm
    ids: random.Random
    """Of users: hand-outs go by them, so the same example must meet the same ids."""

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def opened(self, user_id: UUID, name: str, stored: str) -> str:
        """A credential in clear."""
        return KeyRing.parse(KEYS).decrypt(stored, row_id=user_id, field=name)

    def rows(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        return self.run(self.farm.sql.fetch(statement, *arguments))


class FarmBesideModel(RuleBasedStateMachine):
    """The farm and its model side by side, and what it means that they agree."""

    world: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        self.world.rows("TRUNCATE users, leases, projects")
        self.world.ids.seed(0)
        self.started = time.monotonic()
        self.model = Model()
        self.pools: dict[UUID, Pool] = {}
        """Where each user was seen last: a deleted one keeps its pool, so that an empty pool is asked too."""
        self.time_steps = 0
        self.audited: int = self.world.rows("SELECT coalesce(max(id), 0) AS id FROM audit")[0]["id"]
        """Up to which entry the audit was read."""
        self.touched = UUID(int=0)
        """The lease that the last step on a lease was about; from the first lease on there is one."""

    @property
    def services(self) -> Services:
        return self.world.farm.services

    def both(self, expected: Callable[[], T], actual: Coroutine[Any, Any, Any]) -> tuple[T, Any] | None:
        """What the model and the farm answer; None when both refuse, and for the same reason."""
        prediction, answer = self.attempt(expected), self.attempt(lambda: self.world.run(actual))
        if not isinstance(prediction, errors.BotfarmError) and not isinstance(answer, errors.BotfarmError):
            return prediction, answer
        assert type(answer) is type(prediction), f"answered {answer!r}, expected {prediction!r}"
        assert isinstance(prediction, errors.BotfarmError)
        assert isinstance(answer, errors.BotfarmError)
        for name, value in prediction.details.items():
            given = answer.details[name]
            is_time = name in {"expires_in", "next_free_in"}
            assert self.close(given, value) if is_time else given == value, (name, given, value)
        return None

    @staticmethod
    def attempt(work: Callable[[], T]) -> T | errors.BotfarmError:
        try:
            return work()
        except errors.BotfarmError as error:
            return error

    def close(self, given: Any, value: Any) -> bool:
        """Seconds that are equal but for the real time that this example has taken so far."""
        if given is None or value is None:
            return given is value
        return abs(float(given) - float(value)) <= time.monotonic() - self.started + 0.01

    def close_to_due(self, given: datetime, now: datetime, due: float) -> bool:
        return self.close((given - now).total_seconds(), due - self.model.now)

    def same_lease(self, lease: Lease, expected: ModelLease, *, reader: str | None = None) -> None:
        """As this reader sees it; None for lists and ends, which show nobody a password."""
        ended_by = self.model.ended_by(expected)
        assert (lease.principal, lease.pool) == (expected.wanted.principal, expected.pool)
        assert (lease.ended_by, lease.is_live) == (ended_by, ended_by is None)
        assert [user.id for user in lease.users] == self.model.shown(expected)
        assert self.close(lease.ttl_seconds, expected.ttl), (lease.ttl_seconds, expected.ttl)
        left = 0 if ended_by else expected.expires_at - self.model.now
        assert self.close(lease.expires_in, left), (lease.expires_in, left)
        assert self.close(
            (lease.expires_at - lease.acquired_at).total_seconds(), expected.expires_at - expected.acquired_at
        )
        assert lease.expires_at <= lease.hold_until
        assert self.close(
            (lease.hold_until - lease.acquired_at).total_seconds(), expected.hold_until - expected.acquired_at
        )
        is_readable = ended_by is None and reader == expected.wanted.principal
        for user in lease.users:
            known = self.model.users[user.id]
            assert user.password == (known.password if is_readable else None)
            shows_pending = is_readable and expected.wanted.purpose is not Purpose.TEST
            assert user.pending_password == (known.pending if shows_pending else None)
            assert (user.locktime is not None) is (ended_by is None)

    def wait(self, seconds: int) -> None:
        if seconds and self.time_steps < MOST_TIME_STEPS:
            self.world.run(pass_time(self.world.farm.sql, seconds))
            self.model.now += seconds
            self.time_steps += 1

    def check_hand_out(
        self, wanted: Wanted, prediction: ModelLease | list[UUID], grant: Grant
    ) -> UUID | None:
        """The id of the lease if it is a new one."""
        lease = grant.lease
        self.touched = lease.id
        if isinstance(prediction, ModelLease):
            assert grant.replayed
            assert self.model.leases[lease.id] is prediction
        else:
            assert not grant.replayed
            ids = [user.id for user in lease.users]
            assert len(ids) == wanted.count
            assert set(ids) <= set(prediction), "users that are not free, or whose turn it is not"
            self.is_fit_to_be_had(wanted.purpose, ids)
            due = self.model.due(wanted, ids)
            assert {user.id: user.due for user in lease.users} == due
            prediction = self.model.hand_out(wanted, lease.id, ids)
        self.same_lease(lease, prediction, reader=wanted.principal)
        return None if grant.replayed else lease.id

    def is_fit_to_be_had(self, purpose: Purpose, ids: list[UUID]) -> None:
        """Just before the grant: no test gets a user that waits for a keeper, is out of service or is changing."""
        for user in (self.model.users[each] for each in ids):
            assert self.model.live_lease(user) is None
            assert purpose is not Purpose.TEST or user.pending is None
            assert purpose is not Purpose.TEST or self.model.at(user).status is UserStatus.ACTIVE

    def import_all(self, lines: list[UserLine], *, skip_errors: bool) -> list[UUID]:
        """The ids of those that were created."""
        before, refused = dict(self.model.users), []
        first: dict[tuple[UUID, str, str], int] = {}
        for line in lines:
            account = (line.pool.project_id, line.pool.env, line.login.lower())
            is_known = line.pool.project_id in self.model.projects
            if is_known and (earlier := first.setdefault(account, line.line)) != line.line:
                refused.append(LineError(line.line, "login", "duplicate", earlier))
                continue
            user = ModelUser(
                line.login, line.password, line.pool, line.labels, self.model.now, self.model.now
            )
            try:
                self.model.add_user(uuid4(), user)
            except errors.BotfarmError as error:
                refused.append(LineError(line.line, *LINE_ERRORS[type(error)]))
        added = [user for key, user in self.model.users.items() if key not in before]
        self.model.users = before
        on_error = OnError.SKIP if skip_errors else OnError.FAIL
        import_users = self.services.importing.import_users(MANAGER, _stream(lines), on_error=on_error)
        result = self.attempt(lambda: self.world.run(import_users))
        if refused and not skip_errors:
            assert isinstance(result, errors.ImportRejectedError)
            assert result.details["errors"] == [each.shown() for each in refused]
            return []
        assert not isinstance(result, errors.BotfarmError), result
        assert (result.created, result.skipped, list(result.errors)) == (len(added), len(refused), refused)
        return [self.adopt(user) for user in added]

    def adopt(self, user: ModelUser) -> UUID:
        """Asks the farm for the id of an imported user."""
        find = "SELECT id FROM users WHERE (project_id, env, login) = ($1, $2, $3)"
        (row,) = self.world.rows(find, user.pool.project_id, user.pool.env, user.login)
        user_id: UUID = row["id"]
        self.model.users[user_id] = user
        self.pools[user_id] = user.pool
        return user_id

    def open_project(self, policy: ProjectPolicy) -> UUID:
        name = f"project-{time.monotonic_ns()}"
        project = self.world.run(
            self.services.projects.create(MANAGER, project_id=None, name=name, policy=policy)
        )
        self.model.projects[project.id] = policy
        return project.id

    def acquire(self, wanted: Wanted, caller: str = "stays") -> Any:
        prediction = self.attempt(lambda: self.model.look_up(wanted))
        if caller != "stays" and isinstance(prediction, list):
            lease = self.hang_up(wanted, prediction)
            if caller == "comes back" and wanted.key:
                assert self.acquire(wanted) == multiple()
            return lease
        answers = self.both(lambda: self.model.look_up(wanted), self.ask(wanted, gone=caller != "stays"))
        new = self.check_hand_out(wanted, *answers) if answers else None
        return new or multiple()

    def hang_up(self, wanted: Wanted, prediction: list[UUID]) -> UUID:
        """The caller is gone by the time it is given a new lease."""
        answer = self.attempt(lambda: self.world.run(self.ask(wanted, gone=True)))
        assert isinstance(answer, errors.CallerGoneError), answer
        (row,) = self.world.rows("SELECT id, user_ids FROM leases ORDER BY fence DESC LIMIT 1")
        assert set(row["user_ids"]) <= set(prediction)
        self.touched = row["id"]
        self.model.hang_up(self.model.hand_out(wanted, self.touched, row["user_ids"]))
        return self.touched

    async def ask(self, wanted: Wanted, *, gone: bool = False) -> Grant:
        farm, principal = self.world.farm, PRINCIPALS[wanted.principal]
        connection = Connection(is_closed=gone)
        terms: dict[str, Any] = {"ttl_seconds": wanted.ttl, "idempotency_key": wanted.key}
        if isinstance(wanted.what, UUID) and wanted.purpose is Purpose.HOLD:
            hold = self.services.user_acquiring.hold
            return await hold(principal, wanted.what, LeaseTerms(**terms), connection=connection)
        if isinstance(wanted.what, UUID):
            return await farm.lock(wanted.what, principal, connection=connection, **terms)
        labels, count = dict(wanted.labels), wanted.count
        return await farm.grant(
            wanted.what,
            principal,
            labels=labels,
            count=count,
            purpose=wanted.purpose,
            connection=connection,
            **terms,
        )

    def caller(self, lease: UUID, *, by_holder: bool) -> Principal:
        holder = self.model.leases[lease].wanted.principal
        return PRINCIPALS[holder] if by_holder else RUNNER if holder != RUNNER.name else OTHER_RUNNER


def run_machine(machine: type[FarmBesideModel], world: World) -> None:
    FarmBesideModel.world = world
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            derandomize=False,
            print_blob=True,
            report_multiple_bugs=False,
            phases=set(Phase) - {Phase.explain},
            suppress_health_check=list(HealthCheck),
        ),
    )


async def _stream(lines: list[UserLine]) -> AsyncIterator[UserLine | LineError]:
    for line in lines:
        yield line
