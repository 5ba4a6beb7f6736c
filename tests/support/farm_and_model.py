"""The farm and the model of its rules side by side, and what must be true of both after each step."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any, ClassVar, TypeVar
from uuid import UUID, uuid4

import asyncpg
from hypothesis.stateful import RuleBasedStateMachine, invariant

from botfarm import errors
from botfarm.domain.access import EVERYTHING
from botfarm.domain.leases import Grant, Lease, LeaseFilter
from botfarm.domain.pools import Domain, Env, Pool
from botfarm.domain.users import LineError, UserLine, UserState
from botfarm.runtime.services import Services
from support.farm import MANAGER, OTHER_RUNNER, RUNNER, Farm
from support.model import Model, ModelLease, ModelUser, Wanted

# Each step is a second more than a multiple of 100 s. After this many steps, a deadline of 30 s or 100 s is
# still at least 10 s away.
MOST_TIME_STEPS = 20

T = TypeVar("T")

LINE_ERRORS: dict[type[errors.BotfarmError], tuple[str, str]] = {
    errors.NoSuchProjectError: ("project_id", "no-such-project"),
    errors.UserExistsError: ("login", "user-exists"),
}

TIME_PASSES = """
    WITH moved AS (
        UPDATE users SET locktime = locktime - $1::interval, expires_at = expires_at - $1,
                         available_at = available_at - $1
    )
    UPDATE leases SET acquired_at = acquired_at - $1, expires_at = expires_at - $1,
                      hold_until = hold_until - $1, ended_at = ended_at - $1"""


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


class FarmAndModel(RuleBasedStateMachine):
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
                  AND (u.lease_id, u.fence) = (l.id, l.fence)
                  AND (u.locktime, u.expires_at) = (l.acquired_at, l.expires_at)
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
            assert counts.total == sum(getattr(counts, state) for state in UserState)

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


async def _stream(lines: list[UserLine]) -> AsyncIterator[UserLine | LineError]:
    for line in lines:
        yield line
