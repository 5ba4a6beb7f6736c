"""Any sequence of operations, on a real database, against the model of the rules in support/model.py.

No time passes by itself: `time_passes` moves every stored time into the past, which is the same. Durations are multiples
of 100 s and each step of time is 3 s more than one, so nothing is ever decided close to a boundary.

`BOTFARM_HYPOTHESIS_EXAMPLES=5000 pytest tests/integration/test_state_machine.py` looks longer.
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

from botfarm.domain import (
    Domain,
    EndedBy,
    Env,
    Lease,
    LeaseFilter,
    LeasePolicy,
    LineError,
    Pool,
    Principal,
    ProjectChanges,
    UserChanges,
    UserLine,
    UserStatus,
)
from botfarm.errors import BotfarmError, ImportRejectedError, NoSuchProjectError, UserExistsError
from botfarm.runtime import Services
from botfarm.services import acquiring, importing, users
from botfarm.services.acquiring import Grant
from botfarm.services.lease_requests import PoolRequest, RequestedTerms
from support.farm import OTHER_RUNNER, RUNNER, Farm, open_farm
from support.model import Model, ModelLease, ModelUser, Wanted

EXAMPLES = int(os.environ.get("BOTFARM_HYPOTHESIS_EXAMPLES", "70"))
STEPS = 40
# Each step of time adds 3 s to a multiple of 100 s: after so many of them boundaries are still 25 s away.
MOST_TIME_STEPS = 25
WHOLE, EXTRA = 100, 3

T = TypeVar("T")

LINE_ERRORS = {
    NoSuchProjectError: lambda line: LineError(line, "project_id", "no-such-project"),
    UserExistsError: lambda line: LineError(line, "login", "user-exists"),
}

KINDS = st.sampled_from([(Env.STAGE, Domain.REGULAR), (Env.PROD, Domain.CANARY)])
LOGINS = st.sampled_from(
    [f"{name}@shop.test" for name in ("ann", "ANN", "bob", "eve", "joe", "kim", "lea", "max")]
)
LABELS = st.sampled_from([{}, {"plan": "paid"}, {"plan": "paid", "language": "fr"}])
LABEL_CHANGES = st.sampled_from([{}, {"plan": "paid"}, {"plan": None}])
PRINCIPALS = st.sampled_from([RUNNER.name, OTHER_RUNNER.name])
IS_HOLDER = st.sampled_from([True, True, True, False])
KEYS = st.sampled_from([None, None, "key-1", "key-2"])
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
TIMES = st.sampled_from([EXTRA, *(WHOLE * times + EXTRA for times in (1, 2, 4, 10))])

TIME_PASSES = """
    WITH moved AS (
        UPDATE users SET locktime = locktime - $1::interval, expires_at = expires_at - $1, available_at = available_at - $1
    )
    UPDATE leases SET acquired_at = acquired_at - $1, expires_at = expires_at - $1, hold_until = hold_until - $1,
                      ended_at = ended_at - $1"""


@dataclass(frozen=True)
class World:
    """One farm and one event loop for all examples."""

    runner: asyncio.Runner
    farm: Farm
    ids: random.Random
    """Of users: as hand-outs go by them, the same example must give the same ids."""

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def rows(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        return self.run(self.farm.sql.fetch(statement, *arguments))


@pytest.fixture
def world(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    ids = random.Random()
    for module in (users, importing, acquiring):
        monkeypatch.setattr(module, "uuid4", lambda: UUID(int=ids.getrandbits(128), version=4))
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        stack = AsyncExitStack()
        yield World(runner, runner.run(stack.enter_async_context(open_farm(database_url))), ids)
        runner.run(stack.aclose())


class FarmMachine(RuleBasedStateMachine):
    world: ClassVar[World]
    projects = Bundle("projects")
    users = Bundle("users")
    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.world.run(self.world.farm.sql.execute("TRUNCATE users, leases, projects"))
        self.world.ids.seed(0)
        self.started = time.monotonic()
        self.model = Model()
        self.pools: dict[UUID, Pool] = {}
        """Where each user was when it was last seen; a deleted one keeps its pool, so an emptied pool is asked too."""
        self.passwords = 0
        self.time_steps = 0
        self.touched: UUID | None = None

    # Helpers

    @property
    def services(self) -> Services:
        return self.world.farm.services

    def both(self, expected: Callable[[], T], actual: Coroutine[Any, Any, Any]) -> tuple[T, Any] | None:
        """What the model and the farm answer; None when both refuse, and for the same reason."""
        try:
            prediction: T | BotfarmError = expected()
        except BotfarmError as error:
            prediction = error
        try:
            answer = self.world.run(actual)
        except BotfarmError as error:
            assert isinstance(prediction, BotfarmError), f"refused as {error!r}, expected {prediction!r}"
            assert type(error) is type(prediction), f"refused as {error!r}, expected {prediction!r}"
            self.same_details(error, prediction)
            return None
        assert not isinstance(prediction, BotfarmError), f"answered {answer!r}, expected {prediction!r}"
        return prediction, answer

    def same_details(self, error: BotfarmError, prediction: BotfarmError) -> None:
        for name, value in prediction.details.items():
            given = error.details[name]
            if name in {"expires_in", "next_free_in"}:
                assert self.close(given, value), (name, given, value)
            else:
                assert given == value, (name, given, value)

    def close(self, given: Any, value: float | None) -> bool:
        """Seconds to come, equal but for the real time that this example has taken so far."""
        if given is None or value is None:
            return given is value
        return abs(float(given) - value) <= time.monotonic() - self.started + 0.01

    def same_time(self, given: datetime | None, now: datetime, value: float | None) -> bool:
        if given is None or value is None:
            return given is value
        return self.close((given - now).total_seconds(), value - self.model.now)

    def same_lease(self, lease: Lease, expected: ModelLease, *, reader: str | None = None) -> None:
        """As the reader sees it: passwords are for the holder of a live lease, and never in lists or ends."""
        ended_by = self.model.ended_by(expected)
        assert lease.principal == expected.wanted.principal
        assert lease.pool == expected.pool
        assert lease.ended_by is ended_by
        assert lease.is_live is (ended_by is None)
        assert lease.ttl_seconds == expected.ttl
        assert [user.id for user in lease.users] == self.model.shown(expected)
        remaining = expected.expires_at - self.model.now if ended_by is None else 0
        assert self.close(lease.expires_in, remaining), (lease.expires_in, remaining)
        assert lease.expires_at <= lease.hold_until
        hold = (lease.hold_until - lease.acquired_at).total_seconds()
        assert abs(hold - (expected.hold_until - expected.acquired_at)) < 1e-5
        readable = ended_by is None and reader == expected.wanted.principal
        for user in lease.users:
            assert user.password == (self.model.users[user.id].password if readable else None)

    def principal(self, lease_id: UUID, *, is_holder: bool) -> Principal:
        holder = self.model.leases[lease_id].wanted.principal
        return Principal(holder) if is_holder else next(p for p in (RUNNER, OTHER_RUNNER) if p.name != holder)

    def acquire(self, wanted: Wanted) -> UUID | None:
        """The id of a new lease; None when refused, or a retry that got its lease again."""
        answers = self.both(lambda: self.model.look_up(wanted), self.ask(wanted))
        if answers is None:
            return None
        prediction, grant = answers
        assert grant.replayed is isinstance(prediction, ModelLease)
        users = [user.id for user in grant.lease.users]
        if isinstance(prediction, ModelLease):
            assert self.model.leases[grant.lease.id] is prediction
        else:
            assert len(users) == wanted.count
            assert set(users) <= set(prediction), "users who were not free, or not whose turn it was"
            prediction = self.model.hand_out(wanted, grant.lease.id, users)
        self.same_lease(grant.lease, prediction, reader=wanted.principal)
        self.touched = grant.lease.id
        return None if grant.replayed else grant.lease.id

    async def ask(self, wanted: Wanted) -> Grant:
        principal = Principal(wanted.principal)
        terms = RequestedTerms(ttl_seconds=wanted.ttl, idempotency_key=wanted.key)
        if isinstance(wanted.what, UUID):
            return await self.services.acquiring.acquire_lock(principal, wanted.what, terms)
        pool, labels = wanted.what, dict(wanted.labels)
        request = PoolRequest(pool.project_id, pool.env, pool.domain, labels=labels, count=wanted.count)
        return await self.services.acquiring.acquire_lease(principal, request, terms, caller_gone=_stays)

    def add(self, user_id: UUID, line: UserLine) -> None:
        new = ModelUser(line.login, line.password, line.pool, dict(line.labels), self.model.now)
        self.model.users[user_id] = new
        self.pools[user_id] = line.pool

    def line(self, number: int, project: UUID, kind: tuple[Env, Domain], login: str, labels: Any) -> UserLine:
        return UserLine(number, login, self.new_password(), Pool(project, *kind), labels)

    def new_password(self) -> str:
        self.passwords += 1
        return f"password {self.passwords}"

    # The stock

    @initialize(target=projects, policy=POLICIES)
    def first_project(self, policy: LeasePolicy) -> UUID:
        return self.create_project_of(policy)

    @initialize(target=users, project=projects, number=st.integers(0, 4), labels=LABELS)
    def first_users(self, project: UUID, number: int, labels: dict[str, str]) -> Any:
        kind = (Env.STAGE, Domain.REGULAR)
        lines = [
            self.line(n, project, kind, f"first-{n}@shop.test", labels if n % 2 else {})
            for n in range(number)
        ]
        return multiple(*self.import_all(lines, skip_errors=False))

    @rule(target=projects, policy=POLICIES)
    def create_project(self, policy: LeasePolicy) -> Any:
        return self.create_project_of(policy) if len(self.model.projects) < 2 else multiple()

    def create_project_of(self, policy: LeasePolicy) -> UUID:
        name = f"project-{time.monotonic_ns()}"
        project = self.world.run(self.services.projects.create(project_id=None, name=name, policy=policy))
        self.model.projects[project.id] = policy
        return project.id

    @rule(project=projects, changes=POLICY_CHANGES)
    def update_project(self, project: UUID, changes: dict[str, int]) -> None:
        update = self.services.projects.update(project, ProjectChanges(**changes))
        self.both(lambda: self.model.update_project(project, changes), update)

    @rule(project=projects)
    def delete_project(self, project: UUID) -> None:
        self.both(lambda: self.model.delete_project(project), self.services.projects.delete(project))

    @rule(target=users, project=projects, kind=KINDS, login=LOGINS, labels=LABELS)
    def create_user(self, project: UUID, kind: tuple[Env, Domain], login: str, labels: dict[str, str]) -> Any:
        line = self.line(1, project, kind, login, labels)
        create = self.services.users.create(
            login=login, password=line.password, pool=line.pool, labels=labels
        )
        answers = self.both(lambda: self.model.new_user(login, line.pool), create)
        if answers is None:
            return multiple()
        self.add(answers[1].id, line)
        return answers[1].id

    @rule(
        target=users,
        project=projects,
        kind=KINDS,
        wanted=st.lists(st.tuples(LOGINS, LABELS), max_size=3),
        skip_errors=st.booleans(),
    )
    def import_users(
        self, project: UUID, kind: tuple[Env, Domain], wanted: list[Any], skip_errors: bool
    ) -> Any:
        lines = [self.line(number, project, kind, *each) for number, each in enumerate(wanted, 1)]
        return multiple(*self.import_all(lines, skip_errors=skip_errors))

    def import_all(self, lines: list[UserLine], *, skip_errors: bool) -> list[UUID]:
        """The ids of those that were created."""
        refused: list[LineError] = []
        before = dict(self.model.users)
        for line in lines:
            try:
                self.model.new_user(line.login, line.pool)
            except BotfarmError as error:
                refused.append(LINE_ERRORS[type(error)](line.line))
            else:
                self.add(uuid4(), line)  # until its id is known
        added = [user for key, user in self.model.users.items() if key not in before]
        self.model.users = before
        try:
            result = self.world.run(
                self.services.importing.import_users(_stream(lines), skip_errors=skip_errors)
            )
        except ImportRejectedError as error:
            assert refused and not skip_errors
            assert error.details["errors"] == [asdict(each) for each in refused]
            return []
        assert skip_errors or not refused
        assert (result.created, result.skipped, list(result.errors)) == (len(added), len(refused), refused)
        return [self.adopt(user) for user in added]

    def adopt(self, user: ModelUser) -> UUID:
        """Asks the farm for the id of an imported user."""
        found = self.world.rows(
            "SELECT id FROM users WHERE (project_id, env, login) = ($1, $2, $3)",
            user.pool.project_id,
            user.pool.env,
            user.login,
        )
        self.model.users[found[0]["id"]] = user
        self.pools[found[0]["id"]] = user.pool
        return found[0]["id"]

    @rule(user=users, status=st.sampled_from(UserStatus))
    def quarantine_or_activate(self, user: UUID, status: UserStatus) -> None:
        self.change(user, UserChanges(status=status))

    @rule(user=users, login=st.none() | LOGINS, has_new_password=st.booleans(), labels=LABEL_CHANGES)
    def change_user(self, user: UUID, login: str | None, has_new_password: bool, labels: Any) -> None:
        password = self.new_password() if has_new_password else None
        self.change(user, UserChanges(login=login, password=password, labels=labels))

    @rule(user=users, project=projects, kind=KINDS)
    def move_user(self, user: UUID, project: UUID, kind: tuple[Env, Domain]) -> None:
        self.change(user, UserChanges(project_id=project, env=kind[0], domain=kind[1]))

    def change(self, user: UUID, changes: UserChanges) -> None:
        self.both(lambda: self.model.update_user(user, changes), self.services.users.update(user, changes))
        if user in self.model.users:
            self.pools[user] = self.model.users[user].pool

    @rule(user=users)
    def delete_user(self, user: UUID) -> None:
        self.both(lambda: self.model.delete_user(user), self.services.users.delete(user))

    # Hand-outs

    @rule(
        target=leases,
        principal=PRINCIPALS,
        like=users,
        labels=st.sampled_from([(), (), (("plan", "paid"),)]),
        count=st.sampled_from([1, 1, 2, 3]),
        ttl=TTLS,
        key=KEYS,
    )
    def acquire_lease(
        self, principal: str, like: UUID, labels: Any, count: int, ttl: int | None, key: Any
    ) -> Any:
        lease = self.acquire(Wanted(principal, key, ttl, self.pools[like], labels, count))
        return lease or multiple()

    @rule(target=leases, principal=PRINCIPALS, user=users, ttl=TTLS, key=KEYS)
    def acquire_lock(self, principal: str, user: UUID, ttl: int | None, key: str | None) -> Any:
        return self.acquire(Wanted(principal, key, ttl, user)) or multiple()

    @rule(target=leases, lease=leases)
    def retry(self, lease: UUID) -> Any:
        """The same request once more: under its key the same lease, else another one."""
        return self.acquire(self.model.leases[lease].wanted) or multiple()

    # The life of a lease

    @rule(lease=leases, is_holder=IS_HOLDER, ttl=TTLS)
    def renew(self, lease: UUID, is_holder: bool, ttl: int | None) -> None:
        who = self.principal(lease, is_holder=is_holder)
        renew = self.services.leases.renew(who, lease, ttl_seconds=ttl)
        answers = self.both(lambda: self.model.renew(who.name, lease, ttl), renew)
        if answers:
            self.same_lease(answers[1], answers[0], reader=who.name)
        self.touched = lease

    @rule(lease=leases, is_holder=IS_HOLDER)
    def release(self, lease: UUID, is_holder: bool) -> None:
        who = self.principal(lease, is_holder=is_holder)
        answers = self.both(
            lambda: self.model.release(who.name, lease), self.services.leases.release(who, lease)
        )
        if answers:
            self.same_lease(answers[1], answers[0])
        self.touched = lease

    @rule(user=users, principal=PRINCIPALS)
    def release_lock(self, user: UUID, principal: str) -> None:
        self.release_lock_of(user, principal, None)

    @rule(lease=leases, is_holder=IS_HOLDER)
    def release_lock_by_its_lease(self, lease: UUID, is_holder: bool) -> None:
        self.release_lock_of(
            self.model.leases[lease].users[0], self.principal(lease, is_holder=is_holder).name, lease
        )

    @rule(lease=leases, user=users)
    def release_lock_by_any_lease(self, lease: UUID, user: UUID) -> None:
        self.release_lock_of(user, self.model.leases[lease].wanted.principal, lease)

    def release_lock_of(self, user: UUID, principal: str, lease: UUID | None) -> None:
        release = self.services.leases.release_lock(Principal(principal), user, lease_id=lease)
        answers = self.both(lambda: self.model.release_lock(principal, user, lease), release)
        if answers:
            assert answers[1].state is self.model.state(self.model.users[user])

    @rule(lease=leases)
    def force_release(self, lease: UUID) -> None:
        force = self.services.leases.force_release(lease, reason="stuck job")
        answers = self.both(lambda: self.model.force_release(lease), force)
        assert answers
        self.same_lease(answers[1], answers[0])
        self.touched = lease

    # Time

    @precondition(lambda self: self.time_steps < MOST_TIME_STEPS)
    @rule(seconds=TIMES)
    def time_passes(self, seconds: int) -> None:
        self.world.rows(TIME_PASSES, timedelta(seconds=seconds))
        self.model.now += seconds
        self.time_steps += 1

    @rule()
    def reap(self) -> None:
        expired = [
            lease for lease in self.model.leases.values() if self.model.ended_by(lease) is EndedBy.EXPIRED
        ]
        reaped = [lease for lease in expired if not lease.ended_by]
        assert self.world.run(self.services.maintenance.reap()) == len(reaped)
        for lease in reaped:
            lease.ended_by = EndedBy.EXPIRED
        assert not self.world.rows("SELECT 1 FROM users WHERE expires_at <= clock_timestamp()")
        assert not self.world.rows(
            "SELECT 1 FROM leases WHERE ended_at IS NULL AND expires_at <= clock_timestamp()"
        )

    # Invariants

    @invariant()
    def the_rules_hold(self) -> None:
        self.a_user_is_in_one_live_lease_at_most()
        self.a_live_lease_has_exactly_its_users()
        self.a_lock_is_of_a_live_lease()
        self.a_leased_user_rests_for_the_lock_delay_after_its_expiry()
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
                SELECT FROM leases AS l WHERE l.id = u.lease_id AND u.id = ANY (l.user_ids)
                AND l.ended_at IS NULL AND l.expires_at > clock_timestamp())""")

    def a_leased_user_rests_for_the_lock_delay_after_its_expiry(self) -> None:
        """A project's lock-delay only ever gets shorter here, and leases under way keep the longer one."""
        assert not self.world.rows("""
            SELECT u.id FROM users AS u JOIN projects AS p ON p.id = u.project_id
            WHERE u.locktime IS NOT NULL AND u.available_at < u.expires_at + make_interval(secs => p.lock_delay)""")

    def fences_rise_with_each_hand_out(self) -> None:
        rows = self.world.rows("SELECT id, acquired_at FROM leases ORDER BY fence")
        assert [row["id"] for row in rows] == list(self.model.leases)
        assert rows == sorted(rows, key=itemgetter("acquired_at"))

    def a_key_is_of_one_lease_of_its_principal(self) -> None:
        assert not self.world.rows("""
            SELECT principal, idempotency_key FROM leases WHERE idempotency_key IS NOT NULL
            GROUP BY principal, idempotency_key HAVING count(*) > 1""")

    def no_user_is_lost(self) -> None:
        expected = self.model.pools()
        usages = {usage.pool: usage.counts for usage in self.world.run(self.services.pools.list())}
        assert usages.keys() == expected.keys()
        for pool, counts in usages.items():
            assert self.close(counts.next_free_in, expected[pool].next_free_in)
            assert replace(counts, next_free_in=None) == replace(expected[pool], next_free_in=None)
            assert counts.total == counts.free + counts.leased + counts.resting + counts.quarantined

    def every_user_is_as_the_model_says(self) -> None:
        rows = self.world.rows("SELECT *, clock_timestamp() AS now FROM users")
        assert {row["id"] for row in rows} == self.model.users.keys()
        for row in rows:
            user = self.model.users[row["id"]]
            pool = Pool(row["project_id"], Env(row["env"]), Domain(row["domain"]))
            assert (row["login"], pool, row["lease_id"]) == (user.login, user.pool, user.lease)
            assert (row["status"] == "quarantined") is user.quarantined
            assert self.close(
                (row["available_at"] - row["now"]).total_seconds(), user.available_at - self.model.now
            )
            locked = row["locktime"] is not None and row["expires_at"] > row["now"]
            assert locked is (self.model.live_lease(user) is not None)

    def every_lease_is_as_the_model_says(self) -> None:
        leases = self.world.run(self.services.leases.list(LeaseFilter(), cursor=None, limit=1_000)).items
        assert [lease.id for lease in leases] == list(reversed(self.model.leases))
        for lease in leases:
            self.same_lease(lease, self.model.leases[lease.id])

    def passwords_are_for_the_holder_of_a_live_lease(self) -> None:
        """Asked of one lease only, the last that a step was about."""
        if self.touched is None:
            return
        for reader in (RUNNER, OTHER_RUNNER):
            lease = self.world.run(self.services.leases.get(reader, self.touched))
            self.same_lease(lease, self.model.leases[self.touched], reader=reader.name)


async def _stays() -> bool:
    return False


async def _stream(lines: list[UserLine]) -> AsyncIterator[UserLine | LineError]:
    for line in lines:
        yield line


@pytest.mark.timeout(600 + EXAMPLES)
def test_no_sequence_of_operations_breaks_a_rule(world: World) -> None:
    FarmMachine.world = world
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
