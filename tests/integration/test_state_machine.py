"""Any sequence of operations, on a real database, against the model of the rules in support/model.py.

No time passes by itself: `time_passes` moves every stored time into the past, which is the same. Durations are multiples
of 100 s (and one of 30 s), and each step of time is one second more than such a multiple; there are few enough of them
that nothing is ever decided close to a boundary.

Look longer: `BOTFARM_HYPOTHESIS_EXAMPLES=2000 pytest tests/integration/test_state_machine.py`. To run a failure again, put
the `@reproduce_failure(...)` that it prints on `FarmMachine`.
"""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any, ClassVar, TypeVar
from uuid import UUID, uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from botfarm import errors
from botfarm.db.leasing import acquire_pool_queries
from botfarm.domain.access import EVERYTHING, Principal, Role
from botfarm.domain.leases import EndedBy, Grant, Lease, LeaseFilter
from botfarm.domain.pools import Domain, Env, Pool
from botfarm.domain.projects import LeasePolicy, ProjectChanges
from botfarm.domain.users import LineError, UserChanges, UserLine, UserStatus
from botfarm.runtime.services import Services
from botfarm.services.granting import grants
from botfarm.services.stock import importing, users
from support.farm import MANAGER, OTHER_RUNNER, RUNNER, Connection, Farm, open_farm
from support.model import Model, ModelLease, ModelUser, Wanted

EXAMPLES = int(os.environ.get("BOTFARM_HYPOTHESIS_EXAMPLES", "25"))
STEPS = 50
# After so many steps of time, a second more than 100 s each, what is due in 30 s or 100 s is at least 10 s away.
MOST_TIME_STEPS = 20
# Before an operation; most rules have one, so that time passes in every example.
PAUSES = st.sampled_from([0, 0, 0, 0, 1, 101, 401, 1001])

T = TypeVar("T")
Kind = tuple[Env, Domain]

KINDS = st.sampled_from([(Env.STAGE, Domain.REGULAR), (Env.PROD, Domain.CANARY)])
LOGINS = st.sampled_from(
    [f"{name}@shop.test" for name in ("ann", "ANN", "bob", "eve", "joe", "kim", "lea", "max")]
)
LABELS = st.sampled_from([{}, {"plan": "paid"}, {"plan": "paid", "language": "fr"}])
PRINCIPALS = st.sampled_from([RUNNER.name, OTHER_RUNNER.name])
BY_HOLDER = st.sampled_from([True, True, True, False])
LAST = st.none()  # in place of a lease, or of a user of it: that of the last step, which is often live
RARELY = st.sampled_from([False, False, False, True])
# What the caller does while it is given a lease.
CALLERS = st.sampled_from(["stays", "stays", "stays", "goes", "comes back"])
WANTED_LABELS = st.sampled_from([(), (), (), (("plan", "paid"),)])
KEYS = st.sampled_from([None, None, "key-1", "key-2", "key-3"])
TTLS = st.sampled_from([None, 100, 400, 86_400])
POLICIES = st.sampled_from(
    [
        LeasePolicy(default_ttl=300, max_ttl=600, max_hold=900, lock_delay=100, cooldown=0),
        LeasePolicy(default_ttl=200, max_ttl=500, max_hold=700, lock_delay=0, cooldown=300),
        LeasePolicy(default_ttl=800, max_ttl=900, max_hold=400, lock_delay=200, cooldown=100),
    ]
)
POLICY_CHANGES = st.sampled_from(
    [
        {"default_ttl": 500},
        {"max_ttl": 200},
        {"max_hold": 300},
        {"cooldown": 200},
        {"lock_delay": 0},
    ]
)
USER_CHANGES = st.one_of(
    st.builds(UserChanges, status=st.sampled_from(UserStatus)),
    st.builds(UserChanges, login=LOGINS),
    st.builds(UserChanges, password=st.just("a new password")),
    st.builds(UserChanges, labels=st.sampled_from([{"plan": "paid"}, {"plan": None}])),
    st.builds(
        UserChanges, env=st.sampled_from([Env.STAGE, Env.PROD]), domain=st.none() | st.just(Domain.CANARY)
    ),
)
LINE_ERRORS: dict[type[errors.BotfarmError], tuple[str, str]] = {
    errors.NoSuchProjectError: ("project_id", "no-such-project"),
    errors.UserExistsError: ("login", "user-exists"),
}

TIME_PASSES = """
    WITH moved AS (
        UPDATE users SET locktime = locktime - $1::interval, expires_at = expires_at - $1,
                         available_at = available_at - $1
    )
    UPDATE leases SET acquired_at = acquired_at - $1, expires_at = expires_at - $1, hold_until = hold_until - $1,
                      ended_at = ended_at - $1"""


@dataclass(frozen=True)
class World:
    """One farm and one event loop for all examples."""

    runner: asyncio.Runner
    farm: Farm
    ids: random.Random
    """Of users: hand-outs go by them, so the same example must meet the same ids."""

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def rows(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        return self.run(self.farm.sql.fetch(statement, *arguments))


@pytest.fixture
def world(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    ids = random.Random()
    for module in (users, importing, grants, acquire_pool_queries):
        monkeypatch.setattr(module, "uuid4", lambda: UUID(int=ids.getrandbits(128), version=4))
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        stack = AsyncExitStack()
        yield World(runner, runner.run(stack.enter_async_context(open_farm(database_url))), ids)
        runner.run(stack.aclose())


class Comparing(RuleBasedStateMachine):
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
            assert user.password == (self.model.users[user.id].password if is_readable else None)
            assert (user.locktime is not None) is (ended_by is None)

    def wait(self, seconds: int) -> None:
        if seconds and self.time_steps < MOST_TIME_STEPS:
            self.world.rows(TIME_PASSES, timedelta(seconds=seconds))
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
            prediction = self.model.hand_out(wanted, lease.id, ids)
        self.same_lease(lease, prediction, reader=wanted.principal)
        return None if grant.replayed else lease.id

    def import_all(self, lines: list[UserLine], *, skip_errors: bool) -> list[UUID]:
        """The ids of those that were created."""
        before, refused = dict(self.model.users), []
        for line in lines:
            user = ModelUser(line.login, line.password, line.pool, line.labels, self.model.now)
            try:
                self.model.add_user(uuid4(), user)
            except errors.BotfarmError as error:
                refused.append(LineError(line.line, *LINE_ERRORS[type(error)]))
        added = [user for key, user in self.model.users.items() if key not in before]
        self.model.users = before
        import_users = self.services.importing.import_users(MANAGER, _stream(lines), skip_errors=skip_errors)
        result = self.attempt(lambda: self.world.run(import_users))
        if refused and not skip_errors:
            assert isinstance(result, errors.ImportRejectedError)
            assert result.details["errors"] == [asdict(each) for each in refused]
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

    @invariant()
    def the_rules_hold(self) -> None:
        self.a_user_is_in_one_live_lease_at_most()
        self.a_live_lease_has_exactly_its_users()
        self.a_lock_is_of_a_live_lease()
        self.after_its_expiry_a_user_rests_for_the_lock_delay()
        self.fences_rise_with_each_hand_out()
        self.a_key_is_of_one_lease_of_its_principal()
        self.no_user_is_lost()
        self.every_user_is_as_the_model_says()
        self.every_lease_is_as_the_model_says()
        self.passwords_are_for_the_holder_of_a_live_lease()

    def a_user_is_in_one_live_lease_at_most(self) -> None:
        assert not self.world.rows("""
            SELECT user_id FROM leases, unnest(user_ids) AS user_id
            WHERE ended_at IS NULL AND expires_at > clock_timestamp() GROUP BY user_id HAVING count(*) > 1""")

    def a_live_lease_has_exactly_its_users(self) -> None:
        assert not self.world.rows("""
            SELECT l.id FROM leases AS l
            WHERE l.ended_at IS NULL AND l.expires_at > clock_timestamp() AND cardinality(l.user_ids) <> (
                SELECT count(*) FROM users AS u
                WHERE u.id = ANY (l.user_ids)
                  AND (u.lease_id, u.fence, u.locktime, u.expires_at) = (l.id, l.fence, l.acquired_at, l.expires_at)
                  AND (u.project_id, u.env, u.domain) = (l.project_id, l.env, l.domain))""")

    def a_lock_is_of_a_live_lease(self) -> None:
        assert not self.world.rows("""
            SELECT u.id FROM users AS u
            WHERE u.locktime IS NOT NULL AND u.expires_at > clock_timestamp() AND NOT EXISTS (
                SELECT FROM leases AS l
                WHERE l.id = u.lease_id AND u.id = ANY (l.user_ids)
                  AND l.ended_at IS NULL AND l.expires_at > clock_timestamp())""")

    def after_its_expiry_a_user_rests_for_the_lock_delay(self) -> None:
        """A project's lock-delay only ever gets shorter here, and leases under way keep the longer one."""
        assert not self.world.rows("""
            SELECT u.id FROM users AS u JOIN projects AS p ON p.id = u.project_id
            WHERE u.locktime IS NOT NULL AND u.expires_at > clock_timestamp()
              AND u.available_at < u.expires_at + make_interval(secs => p.lock_delay)""")

    def fences_rise_with_each_hand_out(self) -> None:
        rows = self.world.rows("SELECT id, acquired_at FROM leases ORDER BY fence")
        assert [row["id"] for row in rows] == list(self.model.leases)
        assert rows == sorted(rows, key=itemgetter("acquired_at"))

    def a_key_is_of_one_lease_of_its_principal(self) -> None:
        assert not self.world.rows("""
            SELECT principal, idempotency_key FROM leases WHERE idempotency_key IS NOT NULL
            GROUP BY principal, idempotency_key HAVING count(*) > 1""")

    def no_user_is_lost(self) -> None:
        usages = {usage.pool: usage.counts for usage in self.world.run(self.services.pools.list(EVERYTHING))}
        assert usages.keys() == {user.pool for user in self.model.users.values()}
        for pool, counts in usages.items():
            expected = self.model.counts(self.model.members(pool))
            assert self.close(counts.next_free_in, expected.next_free_in)
            assert replace(counts, next_free_in=None) == replace(expected, next_free_in=None)
            assert counts.total == counts.free + counts.leased + counts.resting + counts.quarantined

    def every_user_is_as_the_model_says(self) -> None:
        rows = self.world.rows("SELECT *, clock_timestamp() AS now FROM users")
        assert {row["id"] for row in rows} == self.model.users.keys()
        for row in rows:
            user = self.model.users[row["id"]]
            assert Pool(row["project_id"], Env(row["env"]), Domain(row["domain"])) == user.pool
            assert (row["login"], row["status"] == "quarantined") == (user.login, user.quarantined)
            assert self.close_to_due(row["available_at"], row["now"], user.available_at)
            assert self.model.leases.get(row["lease_id"]) is user.lease
            is_locked = row["locktime"] is not None and row["expires_at"] > row["now"]
            assert is_locked is (self.model.live_lease(user) is not None)

    def every_lease_is_as_the_model_says(self) -> None:
        leases = self.world.run(
            self.services.leases.list(EVERYTHING, LeaseFilter(), cursor=None, limit=1_000)
        ).items
        assert [lease.id for lease in leases] == list(reversed(self.model.leases))
        for lease in leases:
            self.same_lease(lease, self.model.leases[lease.id])

    def passwords_are_for_the_holder_of_a_live_lease(self) -> None:
        if self.touched in self.model.leases:
            for reader in (RUNNER, OTHER_RUNNER):
                lease = self.world.run(self.services.leases.get(reader, self.touched))
                self.same_lease(lease, self.model.leases[self.touched], reader=reader.name)


class FarmMachine(Comparing):
    projects = Bundle("projects")
    users = Bundle("users")
    leases = Bundle("leases")

    # The stock

    @initialize(target=projects, policy=POLICIES)
    def first_project(self, policy: LeasePolicy) -> UUID:
        return self.open_project(policy)

    @initialize(target=users, project=projects, number=st.sampled_from([1, 2, 3, 5]), labels=LABELS)
    def first_users(self, project: UUID, number: int, labels: dict[str, str]) -> Any:
        pool = Pool(project, Env.STAGE, Domain.REGULAR)
        lines = [
            UserLine(n, f"first-{n}@shop.test", f"password {n}", pool, labels if n % 2 else {})
            for n in range(number)
        ]
        return multiple(*self.import_all(lines, skip_errors=False))

    @precondition(lambda self: len(self.model.projects) < 2)
    @rule(target=projects, policy=POLICIES)
    def create_project(self, policy: LeasePolicy) -> UUID:
        return self.open_project(policy)

    def open_project(self, policy: LeasePolicy) -> UUID:
        name = f"project-{time.monotonic_ns()}"
        project = self.world.run(
            self.services.projects.create(MANAGER, project_id=None, name=name, policy=policy)
        )
        self.model.projects[project.id] = policy
        return project.id

    @precondition(lambda self: len(self.model.projects) > 1)
    @rule(project=projects, changes=st.none() | POLICY_CHANGES)
    def update_or_delete_project(self, project: UUID, changes: Any) -> None:
        if changes:
            update = self.services.projects.update(MANAGER, project, ProjectChanges(**changes))
            self.both(lambda: self.model.update_project(project, changes), update)
        else:
            self.both(
                lambda: self.model.delete_project(project), self.services.projects.delete(MANAGER, project)
            )

    @rule(target=users, project=projects, kind=KINDS, login=LOGINS, labels=LABELS)
    def create_user(self, project: UUID, kind: Kind, login: str, labels: dict[str, str]) -> Any:
        user = ModelUser(login, f"password of {login}", Pool(project, *kind), labels, self.model.now)
        provisional = uuid4()
        create = self.services.users.create(
            MANAGER, login=login, password=user.password, pool=user.pool, labels=labels
        )
        answers = self.both(lambda: self.model.add_user(provisional, user), create)
        if answers is None:
            return multiple()
        del self.model.users[provisional]
        assert self.adopt(user) == answers[1].id
        return answers[1].id

    @rule(
        target=users,
        project=projects,
        kind=KINDS,
        wanted=st.lists(st.tuples(LOGINS, LABELS), max_size=3),
        skip_errors=st.booleans(),
    )
    def import_users(self, project: UUID, kind: Kind, wanted: list[Any], skip_errors: bool) -> Any:
        pool = Pool(project, *kind)
        lines = [
            UserLine(line, login, "imported", pool, labels) for line, (login, labels) in enumerate(wanted, 1)
        ]
        return multiple(*self.import_all(lines, skip_errors=skip_errors))

    @rule(user=LAST | users, project=projects, changes=USER_CHANGES, moves=RARELY)
    def update_user(self, user: UUID | None, project: UUID, changes: UserChanges, moves: bool) -> None:
        user = user or self.model.leases[self.touched].users[0]
        changes = replace(changes, project_id=project if moves else None)
        update = self.services.users.update(MANAGER, user, changes)
        answers = self.both(lambda: self.model.update_user(user, changes), update)
        if answers:
            self.pools[user] = answers[0].pool
            assert (answers[1].state, answers[1].labels) == (self.model.state(answers[0]), answers[0].labels)

    @rule(user=LAST | users, pause=PAUSES)
    def delete_user(self, user: UUID | None, pause: int) -> None:
        self.wait(pause)
        user = user or self.model.leases[self.touched].users[0]
        self.both(lambda: self.model.delete_user(user), self.services.users.delete(MANAGER, user))

    # Hand-outs

    @initialize(target=leases, like=users)
    def first_lease(self, like: UUID) -> Any:
        return self.acquire(Wanted(RUNNER.name, None, None, self.pools[like]))

    @rule(
        target=leases,
        principal=PRINCIPALS,
        like=users,
        labels=WANTED_LABELS,
        count=st.sampled_from([1, 1, 2, 3]),
        ttl=TTLS,
        key=KEYS,
        caller=CALLERS,
        pause=PAUSES,
    )
    def acquire_lease(
        self, principal: str, like: UUID, labels: Any, count: int, ttl: Any, key: Any, caller: str, pause: int
    ) -> Any:
        self.wait(pause)
        return self.acquire(Wanted(principal, key, ttl, self.pools[like], labels, count), caller)

    @rule(target=leases, principal=PRINCIPALS, user=users, ttl=TTLS, key=KEYS, caller=CALLERS, pause=PAUSES)
    def acquire_lock(self, principal: str, user: UUID, ttl: Any, key: Any, caller: str, pause: int) -> Any:
        self.wait(pause)
        return self.acquire(Wanted(principal, key, ttl, user), caller)

    @rule(target=leases, lease=leases, principal=PRINCIPALS, pause=PAUSES)
    def lock_again(self, lease: UUID, principal: str, pause: int) -> Any:
        """A user that had this lease."""
        self.wait(pause)
        return self.acquire(Wanted(principal, None, None, self.model.leases[lease].users[0]))

    @rule(target=leases, lease=LAST | leases, pause=PAUSES)
    def retry(self, lease: UUID | None, pause: int) -> Any:
        """The last request, or an earlier one, once more: under its key the same lease, else another one."""
        self.wait(pause)
        return self.acquire(self.model.leases[lease or self.touched].wanted)

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
        farm, principal = self.world.farm, Principal(wanted.principal, Role.RUNNER, EVERYTHING)
        connection = Connection(is_closed=gone)
        terms = {"ttl_seconds": wanted.ttl, "idempotency_key": wanted.key}
        if isinstance(wanted.what, UUID):
            return await farm.lock(wanted.what, principal, connection=connection, **terms)
        labels, count = dict(wanted.labels), wanted.count
        return await farm.grant(
            wanted.what, principal, labels=labels, count=count, connection=connection, **terms
        )

    # The life of a lease

    @rule(lease=LAST | leases, by_holder=BY_HOLDER, ttl=TTLS, pause=PAUSES)
    def renew(self, lease: UUID | None, by_holder: bool, ttl: int | None, pause: int) -> None:
        self.wait(pause)
        lease = self.touched = lease or self.touched
        who = self.caller(lease, by_holder=by_holder)
        renew = self.services.leases.renew(who, lease, ttl_seconds=ttl)
        answers = self.both(lambda: self.model.renew(who.name, lease, ttl), renew)
        if answers:
            self.same_lease(answers[1], answers[0], reader=who.name)

    @rule(lease=LAST | leases, by_holder=BY_HOLDER, pause=PAUSES)
    def release(self, lease: UUID | None, by_holder: bool, pause: int) -> None:
        self.wait(pause)
        lease = self.touched = lease or self.touched
        who = self.caller(lease, by_holder=by_holder)
        answers = self.both(
            lambda: self.model.release(who.name, lease), self.services.leases.release(who, lease)
        )
        if answers:
            self.same_lease(answers[1], answers[0])

    @rule(lease=leases, pause=PAUSES)
    def force_release(self, lease: UUID, pause: int) -> None:
        self.wait(pause)
        self.touched = lease
        force = self.services.leases.force_release(MANAGER, lease, reason="stuck job")
        answers = self.both(lambda: self.model.force_release(lease), force)
        assert answers
        self.same_lease(answers[1], answers[0])

    @rule(lease=leases, user=st.none() | users, by_holder=BY_HOLDER, with_id=st.booleans(), pause=PAUSES)
    def release_lock(
        self, lease: UUID, user: UUID | None, by_holder: bool, with_id: bool, pause: int
    ) -> None:
        """Of a user of the lease, or of any user."""
        self.wait(pause)
        self.touched = lease
        who, of = self.caller(lease, by_holder=by_holder), user or self.model.leases[lease].users[0]
        lease_id = lease if with_id else None
        release = self.services.leases.release_lock(who, of, lease_id=lease_id)
        answers = self.both(lambda: self.model.release_lock(who.name, of, lease_id), release)
        if answers:
            assert answers[1].state is self.model.state(self.model.users[of])

    def caller(self, lease: UUID, *, by_holder: bool) -> Principal:
        holder = self.model.leases[lease].wanted.principal
        return next(each for each in (RUNNER, OTHER_RUNNER) if (each.name == holder) is by_holder)

    # Time

    @rule(seconds=st.sampled_from([1, 101, 201, 401, 1001]))
    def time_passes(self, seconds: int) -> None:
        self.wait(seconds)

    @precondition(lambda self: any(not lease.ended_by for lease in self.model.leases.values()))
    @rule(pause=PAUSES)
    def reap(self, pause: int) -> None:
        self.wait(pause)
        still_open = [lease for lease in self.model.leases.values() if not lease.ended_by]
        expired = [lease for lease in still_open if self.model.ended_by(lease)]
        assert self.world.run(self.services.maintenance.reap()) == len(expired)
        for lease in expired:
            lease.ended_by = EndedBy.EXPIRED
        assert not self.world.rows("SELECT id FROM users WHERE expires_at <= clock_timestamp()")
        assert not self.world.rows(
            "SELECT id FROM leases WHERE ended_at IS NULL AND expires_at <= clock_timestamp()"
        )


async def _stream(lines: list[UserLine]) -> AsyncIterator[UserLine | LineError]:
    for line in lines:
        yield line


@pytest.mark.timeout(
    600 + EXAMPLES
)  # a failure is made as short as can be, which takes longer than to find it
def test_no_sequence_of_operations_breaks_a_rule(world: World) -> None:
    Comparing.world = world
    run_state_machine_as_test(
        FarmMachine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=False,
            print_blob=True,
            report_multiple_bugs=False,
            phases=set(Phase) - {Phase.explain},
            suppress_health_check=list(HealthCheck),
        ),
    )
